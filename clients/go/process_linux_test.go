package gearshift_test

import "syscall"

// endsWithUs has the system end a process that outlives these tests, however they end.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
