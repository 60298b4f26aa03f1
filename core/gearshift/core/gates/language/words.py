"""The commonest function words of the languages that share the Latin script.

Rules: articles, pronouns, prepositions, conjunctions, auxiliaries and a few adverbs, written down for this project from
common knowledge of the languages; no corpus and no foreign list went in. A word that several languages have stands in
each, so that it tells nothing between them. English has more words than the rest: it is the language most answers are in,
and a word that English has too must not count against it. One letter is no word here, since formulas are full of them.
"""

from __future__ import annotations

from collections.abc import Mapping

_LISTS = {
    "english": """
        the of and to in is it that for was on are as with his they at be this from have or by one had not but what all
        were when we there can an your which their said if do will each about how up out them then she many some so these
        would other into has more her two like him see time could no make than first been its who now people my made over
        did down only way find use may long little very after words called just where most know get through back much go
        good new our me man too any day same right look think also around another came come work three word must because
        does part even place well such here take why things help put years different away again off went old number should
        home big give air line set own under read last never us left end along while might next sound below saw something
        thought both few those always show large often together asked house world going want school important until form
        food keep children feet land side without boy once animals life enough took sometimes four head above kind began
        almost live page got earth need far hand high year mother light parts country father let night following being
        since against between however therefore thus since hence given because during within per via let's answer
        question option correct total it's don't i'm you're we're isn't can't doesn't that's he's she's they're
        die den war hat bin hut art son main comment plus non par per con pro ten want van real dare note sin est am
    """,
    "german": """
        der die das den dem des ein eine einen einem einer eines und oder aber denn weil dass daß wenn als ob wie wo was
        wer ist sind war waren wird werden wurde wurden hat haben hatte hatten kann können konnte muss müssen musste soll
        sollte will wollen darf dürfen nicht kein keine keinen auch nur noch schon sehr mehr immer wieder hier dort dann
        nun so in im an am auf aus bei beim mit nach von vom vor zu zum zur über unter zwischen durch für gegen ohne um
        bis seit während wegen ich du er sie es wir ihr mich mir dich dir sich uns euch ihm ihn ihnen mein dein sein seine
        seinen seiner seinem ihre ihren ihrer unser unsere dieser diese dieses diesen diesem jeder jede jedes alle alles
        viel viele man etwas nichts also da damit daher dabei dazu daran darauf sowie bereits etwa zwei drei gibt
        machen gemacht ganz gut bitte ja nein doch jedoch welche welcher welches ihres bin bist wäre hätte würde
    """,
    "french": """
        le la les un une des du de et ou où mais donc car ni que qui quoi dont ce cet cette ces ça cela il elle ils elles
        on nous vous je tu me te se moi toi lui leur leurs mon ma mes ton ta tes son sa ses notre nos votre vos au aux à
        dans par pour sur sous avec sans chez vers entre avant après pendant depuis contre est sont était étaient être été
        sera seront serait fut a ont avait avaient avoir eu aura fait faire faut peut peuvent pouvait doit doivent va vont
        ne pas plus jamais rien aussi très bien même tout toute tous toutes comme si quand lorsque parce alors ainsi puis
        encore déjà toujours ici là y en c'est n'est qu'il qu'elle qu'on d'un d'une l'on s'est j'ai n'a deux trois autre
        autres peu beaucoup chaque quel quelle quels quelles celui celle ceux celles afin selon cependant
    """,
    "spanish": """
        el la los las un una unos unas de del al a y o u pero sino que qué quien quién cual cuál como cómo cuando cuándo
        donde dónde porque pues si sí no ni en por para con sin sobre bajo entre desde hasta hacia según contra durante
        es son era eran fue fueron ser sido siendo está están estaba estar ha han había haber hay tiene tienen tenía tener
        puede pueden podía poder debe deben hace hacer hizo yo tú él ella ellos ellas nosotros usted ustedes me te se nos
        le les lo su sus mi mis tu tus nuestro nuestra este esta esto estos estas ese esa eso esos esas aquel aquella muy
        más menos mucho mucha muchos poco también tampoco ya aún todavía siempre nunca bien así entonces luego antes
        después todo toda todos todas otro otra otros otras cada mismo misma algo nada dos tres aunque mientras
    """,
    "italian": """
        il lo la i gli le un uno una di del dello della dei degli delle a al allo alla ai agli alle da dal dallo dalla dai
        dalle in nel nello nella nei negli nelle con su sul sulla sui sulle per tra fra e ed o oppure ma però anche che chi
        cui non né se come quando dove perché poiché quindi dunque allora così è sono era erano essere stato stata stati
        sarà sia ha hanno aveva avevano avere avuto può possono poteva deve devono fa fare fatto va io tu lui lei noi voi
        loro mi ti si ci vi mio mia suo sua suoi sue nostro nostra questo questa questi queste quello quella quelli quelle
        più meno molto molti molte poco ancora già sempre mai ora qui lì tutto tutta tutti tutte altro altra altri altre
        ogni stesso stessa qualche niente due tre prima dopo mentre fino secondo dell' nell' all' dall' sull' c'è
    """,
    "portuguese": """
        o a os as um uma uns umas de do da dos das no na nos nas ao aos à às pelo pela pelos pelas por para com sem sob
        sobre entre até desde contra durante e ou mas porém que quem qual quais como quando onde porque pois se não sim nem
        é são era eram foi foram ser sido sendo está estão estava estar há tem têm tinha ter pode podem podia poder deve
        devem faz fazer fez eu tu ele ela eles elas nós você vocês me te lhe lhes seu sua seus suas meu minha nosso nossa
        este esta isto estes estas esse essa isso esses essas aquele aquela muito muita muitos pouco também já ainda
        sempre nunca bem assim então depois antes agora aqui ali tudo todo toda todos todas outro outra outros outras cada
        mesmo mesma algo nada dois duas três mais menos embora enquanto num numa dele dela deles só
    """,
    "dutch": """
        de het een en of maar want omdat dat die deze dit wie wat waar wanneer hoe als dan toen ook niet geen wel nog al
        reeds zeer heel meer veel weinig altijd nooit hier daar er nu zo in op aan uit bij met naar van voor na tot over
        onder tussen door tegen zonder om sinds tijdens vanaf is zijn was waren wordt worden werd werden heeft hebben had
        hadden kan kunnen kon moet moeten moest zal zullen zou zouden wil mag gaan gaat doen doet ik jij je hij zij ze wij
        we jullie u mij me jou hem haar ons hun hen mijn jouw onze uw zich zelf elke elk alle alles iets niets andere ander
        twee drie echter dus daarom terwijl toch even weer omdat waarbij waarin zoals volgens
    """,
    "swedish": """
        och att det som en ett den de är var inte på av för med till från om har hade kan ska skulle vill måste blir blev
        jag du han hon vi ni sig sin sitt sina mig dig oss dem honom henne mitt min mina ditt din deras denna detta dessa
        men eller så när där här hur vad vem vilken vilket också bara mycket många alla allt andra efter under över mellan
        utan mot hos vid genom sedan innan redan aldrig alltid varje någon något några ingen inget två tre eftersom medan
        varit vara ha göra gör går kommer
    """,
    "danish_norwegian": """
        og at det som en et den de er var ikke på av af for med til fra om har hadde havde kan skal skulle vil ville må
        måtte blir blev ble bliver jeg du han hun vi dere sig seg sin sitt sit sine meg mig deg dig oss os dem ham henne
        min mitt mit mine deres denne dette disse men eller så når der her hvor hva hvad hvem hvilken hvilket også bare
        meget mye mange alle alt andre etter efter under over mellom mellem uten uden mot mod hos ved gjennom gennem siden
        før allerede aldri aldrig alltid altid hver noen nogen noe noget ingen to tre fordi mens vært været være ha gjøre
        gøre går kommer ut ud inn ind nå nu
    """,
    "polish": """
        i oraz lub albo ale a że żeby aby by jak jako kiedy gdy gdzie który która które którego której których którym co
        kto nie tak już jeszcze tylko też także bardzo więcej zawsze nigdy tu tam teraz w we z ze na do od po za przez przy
        pod nad między bez dla o u przed jest są był była było były być będzie będą ma mają miał może mogą można trzeba
        ja ty on ona ono my wy oni one mnie mi cię ci się go jej ich im nas nam was jego mój swój swoje ten ta to te tego
        tej tych tym tymi każdy wszystko wszystkie inny inne jeden dwa trzy ponieważ więc jednak podczas według kilka
    """,
    "czech": """
        a i nebo ale že aby by jak jako když kde který která které kterého kteří co kdo ne ano tak už ještě jen pouze také
        velmi více vždy nikdy tu tam teď v ve z ze na do od po za přes při pod nad mezi bez pro o u před je jsou byl byla
        bylo byli být bude budou má mají měl může mohou musí já ty on ona ono my vy oni mě mi tě ti se si ho jeho jí jejich
        jim nás nám vás můj svůj své ten ta to ty toho té těch tím tomu každý všechno všechny jiný jeden dva tři protože
        proto však během podle několik než pak nebyl není
    """,
    "romanian": """
        și sau dar că să ca cum când unde care ce cine nu da mai foarte mult multe mulți întotdeauna niciodată aici acolo
        acum în pe la de din cu fără pentru prin despre între până după înainte sub peste este sunt era erau fost fi fie
        va vor are au avea avut poate pot trebuie face eu tu el ea noi voi ei ele îl îi le îmi își se ne vă lui lor mea
        meu său sa lor nostru acest această acesta aceasta aceste acești acel acea un o unei unui niște fiecare tot toate
        toți alt altă alte doi două trei deoarece deci însă timp însă doar deja încă
    """,
    "hungarian": """
        a az egy és vagy de hogy ha mert mint mikor amikor ahol hol aki ami amely ki mi nem igen is már még csak nagyon
        több sok mindig soha itt ott most ban ben van vannak volt voltak lesz lenni lehet kell tud én te ő mi ti ők engem
        téged őt minket az ez ezt azt ezek azok minden más két három között alatt fölött után előtt nélkül szerint miatt
        pedig azonban tehát ezért illetve valamint sem se meg el fel le ki be
    """,
    "finnish": """
        ja tai mutta että jos kun koska kuin joka jotka jonka jossa mitä mikä kuka ei en et emme eivät kyllä myös vain jo
        vielä hyvin enemmän paljon aina koskaan täällä siellä nyt on ovat oli olivat olla ollut olisi voi voivat täytyy
        pitää minä sinä hän me te he se ne minun sinun hänen meidän teidän heidän sen niiden tämä tämän nämä tuo sitä tätä
        kaikki kaikkien muu muut yksi kaksi kolme kanssa ilman jälkeen ennen välillä aikana mukaan kuitenkin siis niin
        sekä eli
    """,
    "turkish": """
        ve veya ya ama fakat çünkü ki eğer gibi kadar için ile de da bir bu şu o ne kim nerede nasıl hangi mi mı mu mü
        değil evet hayır çok daha en az her zaman hiç asla burada orada şimdi sonra önce üzerinde altında arasında olarak
        olan oldu olur olduğu olduğunu var yok vardır ben sen biz siz onlar beni seni onu bizi bana sana ona benim senin
        onun bizim onların bunun bunu bunlar şey tüm bütün diğer başka iki üç ancak bile ise göre
    """,
    "indonesian": """
        dan atau tetapi tapi bahwa jika kalau karena sebab seperti ketika dimana yang apa siapa bagaimana mana tidak bukan
        ya juga hanya sangat lebih banyak selalu sini sana sekarang di ke dari pada dalam untuk dengan tanpa oleh antara
        sampai setelah sebelum adalah ialah akan telah sudah sedang bisa dapat harus ada saya aku kamu anda dia ia kami
        kita mereka ini itu para semua setiap lain satu dua tiga namun maka oleh serta tersebut menjadi secara
    """,
}


def _of() -> Mapping[str, tuple[str, ...]]:
    of: dict[str, list[str]] = {}
    for language, words in _LISTS.items():
        for word in dict.fromkeys(words.split()):
            if len(word) > 1 or not word.isascii():
                of.setdefault(word, []).append(language)
    interned: dict[tuple[str, ...], tuple[str, ...]] = {}
    return {word: interned.setdefault(tuple(languages), tuple(languages)) for word, languages in of.items()}


LANGUAGES_OF: Mapping[str, tuple[str, ...]] = _of()
"""The languages that a lower-case word is common in."""

LANGUAGES = tuple(_LISTS)
"""All of them."""
