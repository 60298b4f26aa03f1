package gearshift

import (
	"container/list"
	"crypto/sha256"
	"errors"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
)

const (
	// minPromptCharacters: prompts up to this length are sent whole, since the server does not keep them.
	minPromptCharacters = 500
	promptCapacity      = 256
)

// promptMemory remembers under which key the server stored a system prompt, so that the text is sent only once.
//
// It keeps hashes and keys, never a text; it is bounded, and the least used goes first. A key belongs to a task, and
// the server may forget it: then the text is sent again, once.
type promptMemory struct {
	mutex sync.Mutex
	keys  map[promptName]*list.Element
	order list.List // of rememberedPrompt, the latest used first
}

type promptName struct {
	task string
	hash [sha256.Size]byte
}

type rememberedPrompt struct {
	name promptName
	key  string
}

// keyOf gives the key of a text, empty when it is not known.
func (m *promptMemory) keyOf(task, text string) string {
	name, isLong := nameOfPrompt(task, text)
	if !isLong {
		return ""
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	found := m.keys[name]
	if found == nil {
		return ""
	}
	m.order.MoveToFront(found)
	return found.Value.(rememberedPrompt).key
}

// remember keeps the key that the server gave for a text; an empty one is no key.
func (m *promptMemory) remember(task, text, key string) {
	name, isLong := nameOfPrompt(task, text)
	if !isLong || key == "" {
		return
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.drop(name)
	if m.keys == nil {
		m.keys = map[promptName]*list.Element{}
	}
	m.keys[name] = m.order.PushFront(rememberedPrompt{name, key})
	for m.order.Len() > promptCapacity {
		m.drop(m.order.Back().Value.(rememberedPrompt).name)
	}
}

// forget drops the key of a text, because the server no longer knows it.
func (m *promptMemory) forget(task, text string) {
	name, isLong := nameOfPrompt(task, text)
	if !isLong {
		return
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.drop(name)
}

// forgetKey drops a key, because it was deleted.
func (m *promptMemory) forgetKey(task, key string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for name, element := range m.keys {
		if name.task == task && element.Value.(rememberedPrompt).key == key {
			m.drop(name)
		}
	}
}

func (m *promptMemory) drop(name promptName) {
	if element := m.keys[name]; element != nil {
		m.order.Remove(element)
		delete(m.keys, name)
	}
}

// isForgotten tells whether an error says that the server does not know the key that was sent.
func isForgotten(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Code == codes.FailedPrecondition && failed.Reason == ErrPromptNotCached
}

func nameOfPrompt(task, text string) (promptName, bool) {
	if len(text) <= minPromptCharacters || utf8.RuneCountInString(text) <= minPromptCharacters {
		return promptName{}, false
	}
	return promptName{task, sha256.Sum256([]byte(text))}, true
}
