package gearshift

import (
	"crypto/sha256"
	"encoding/hex"
)

// Digest gives the digest of an answer: SHA-256, in lower-case hex, of its text's UTF-8, or of the canonical JSON of
// its tool calls when it has any.
func Digest(text string, calls ...*ToolCall) string { return digestOf([]byte(text), calls) }

func digestOf(text []byte, calls []*ToolCall) string {
	if len(calls) > 0 {
		text = canonicalJSON(calls)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// canonicalJSON writes what the contract's digest is taken of. It is not encoding/json's form, which escapes <, >, &,
// U+2028 and U+2029.
func canonicalJSON(calls []*ToolCall) []byte {
	out := []byte{'['}
	for at, call := range calls {
		if at > 0 {
			out = append(out, ',')
		}
		out = appendQuoted(append(out, `{"arguments":`...), call.GetArguments())
		out = appendQuoted(append(out, `,"id":`...), call.GetId())
		out = appendQuoted(append(out, `,"name":`...), call.GetName())
		out = append(out, '}')
	}
	return append(out, ']')
}

func appendQuoted(out []byte, text string) []byte {
	const digits = "0123456789abcdef"
	out = append(out, '"')
	for at := 0; at < len(text); at++ { // by bytes: all that is escaped is ASCII
		switch char := text[at]; char {
		case '"', '\\':
			out = append(out, '\\', char)
		case '\b':
			out = append(out, `\b`...)
		case '\t':
			out = append(out, `\t`...)
		case '\n':
			out = append(out, `\n`...)
		case '\f':
			out = append(out, `\f`...)
		case '\r':
			out = append(out, `\r`...)
		default:
			if char < 0x20 {
				out = append(out, '\\', 'u', '0', '0', digits[char>>4], digits[char&0xf])
			} else {
				out = append(out, char)
			}
		}
	}
	return append(out, '"')
}
