package gearshift_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

func TestEverythingThatIsExportedIsDescribed(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files, described := token.NewFileSet(), 0
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, entry.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		check := func(name *ast.Ident, comments ...*ast.CommentGroup) {
			if !name.IsExported() {
				return
			}
			for _, comment := range comments {
				if comment != nil {
					described++
					return
				}
			}
			t.Errorf("%s: %s has no comment", files.Position(name.Pos()), name.Name)
		}
		for _, declaration := range file.Decls {
			switch declaration := declaration.(type) {
			case *ast.FuncDecl:
				check(declaration.Name, declaration.Doc)
			case *ast.GenDecl:
				for _, spec := range declaration.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						doc := declaration.Doc
						if declaration.Lparen.IsValid() {
							doc = nil // a group's comment describes the group
						}
						check(spec.Name, spec.Doc, doc)
						if fields, ok := spec.Type.(*ast.StructType); ok && spec.Name.IsExported() {
							for _, field := range fields.Fields.List {
								for _, name := range field.Names {
									check(name, field.Doc)
								}
							}
						}
					case *ast.ValueSpec:
						doc := declaration.Doc
						if declaration.Lparen.IsValid() {
							doc = nil
						}
						for _, name := range spec.Names {
							check(name, spec.Doc, doc)
						}
					}
				}
			}
		}
	}
	if described < 150 {
		t.Errorf("only %d names were looked at", described)
	}
}
