// Command ferretdb is the MongoDB of the tests where no mongod is installed: FerretDB, which speaks
// the wire protocol of MongoDB and keeps its data in SQLite files.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:27017", "`host:port` to serve on")
	folder := flag.String("dir", "", "an existing `folder`, for the data")
	flag.Parse()
	if err := serve(*listen, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

// serve returns after SIGINT or SIGTERM.
func serve(listen, folder string) error {
	// Without this, a missing folder is noticed only by the first command of a client.
	if _, err := os.ReadDir(folder); err != nil {
		return err
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: listen},
		Handler:   "sqlite",
		SQLiteURL: "file:" + folder + "/",
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return server.Run(ctx)
}
