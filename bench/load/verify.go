package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	nap           = 700 * time.Millisecond
	napBytes      = 32 << 20
	crowd         = 150
	crowdBytes    = 64 << 10
	verifyTimeout = 60 * time.Second
)

// verify proves that bytes arrive as they were sent, in every way that the measurements use and some more.
func verify(j job) (result, error) {
	checks := []struct {
		name string
		run  func() error
	}{
		{"random bytes up, by hash, over a half-closed connection", func() error { return hashUp(j.Target, j.Bytes, 0) }},
		{"random bytes down, by hash", func() error { return hashDown(j.Target, j.Bytes, 0) }},
		{"a sleeping reader at the server", func() error { return hashUp(j.Target, napBytes, nap) }},
		{"a sleeping reader at the client", func() error { return hashDown(j.Target, napBytes, nap) }},
		{"many at a time", func() error { return both(j.Target) }},
	}
	for _, check := range checks {
		if err := check.run(); err != nil {
			return result{}, fmt.Errorf("%s: %w", check.name, err)
		}
	}
	return result{Count: uint64(len(checks)), Bytes: 2 * j.Bytes}, nil
}

func begin(target string, greeting []byte) (*net.TCPConn, error) {
	conn, err := dial(target, greeting)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(verifyTimeout))
	}
	return conn, err
}

func hashUp(target string, size uint64, pause time.Duration) error {
	conn, err := begin(target, header(opHash, uint64(pause.Milliseconds())))
	if err != nil {
		return err
	}
	defer conn.Close()
	digest := sha256.New()
	if err := writeRandom(io.MultiWriter(conn, digest), size); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	theirs, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	return same(digest.Sum(nil), theirs)
}

func hashDown(target string, size uint64, pause time.Duration) error {
	conn, err := begin(target, header(opRandom, size))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	time.Sleep(pause)
	digest := sha256.New()
	buffer := make([]byte, chunkSize)
	if _, err := io.CopyBuffer(digest, io.LimitReader(conn, int64(size)), buffer); err != nil {
		return err
	}
	theirs, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	return same(digest.Sum(nil), theirs)
}

func both(target string) error {
	return together(crowd, func(int) error {
		return errors.Join(hashUp(target, crowdBytes, 0), hashDown(target, crowdBytes, 0))
	})
}

// verifyServerEndsFirst lets the server end while the client could still send: its last bytes must not be lost.
func verifyServerEndsFirst(j job) (result, error) {
	return result{Bytes: j.Bytes * uint64(j.Parallel)}, together(j.Parallel, func(int) error {
		conn, err := begin(j.Target, header(opRandom, j.Bytes))
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := io.ReadAll(conn)
		if err != nil {
			return err
		}
		if len(answer) != int(j.Bytes)+sha256.Size {
			return fmt.Errorf("%d of %d bytes arrived before the end", len(answer), int(j.Bytes)+sha256.Size)
		}
		return conn.CloseWrite()
	})
}

func same(ours, theirs []byte) error {
	if !bytes.Equal(ours, theirs) {
		return fmt.Errorf("the bytes differ: %x sent, %x arrived", ours, theirs)
	}
	return nil
}
