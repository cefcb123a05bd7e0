// Load generator and application of the benchmark: one small program, so that neither costs more than a proxy.
//
//	load serve ADDRESS   the application: every connection asks for one of the services in serve.go
//	load drive           reads jobs from stdin, one JSON object per line, answers each with one line of JSON
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

func main() {
	// One thread each: idle threads of the scheduler would spin on the cores that the proxies need.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		err = serve(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == "drive":
		err = drive(os.Stdin, os.Stdout)
	default:
		err = fmt.Errorf("usage: load serve ADDRESS | load drive")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
