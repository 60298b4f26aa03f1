//go:build !linux

package gearshift_test

import "syscall"

func endsWithUs() *syscall.SysProcAttr { return nil }
