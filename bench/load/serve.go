package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// The first nine bytes of a connection: what it wants, and a number that the service explains.
const (
	opSink     = 'S' // takes everything until the end, answers with how many bytes it was (8 bytes)
	opSource   = 'G' // sends for that many milliseconds, then ends its side
	opEcho     = 'E' // sends back what it gets
	opHash     = 'H' // waits that many milliseconds, takes everything until the end, answers with its SHA-256
	opHTTP     = 'P' // of POST: requests of HTTP/1.1, each answered with 200
	opRandom   = 'R' // sends that many random bytes and their SHA-256, then ends its side
	headerSize = 9
	chunkSize  = 1 << 18
	readerSize = 4 << 10
)

func header(op byte, argument uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{op}, argument)
}

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			// A client that goes away in the middle says so itself; the application has nothing to add.
			_ = answer(conn.(*net.TCPConn))
		}()
	}
}

func answer(conn *net.TCPConn) error {
	reader := bufio.NewReaderSize(conn, readerSize)
	var head [headerSize]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil {
		return err
	}
	argument := binary.BigEndian.Uint64(head[1:])
	pause := time.Duration(argument) * time.Millisecond
	switch head[0] {
	case opHTTP:
		return web(conn, io.MultiReader(bytes.NewReader(head[:]), reader))
	case opSink:
		return sink(conn, reader)
	case opSource:
		return source(conn, pause)
	case opEcho:
		return echo(conn, reader)
	case opHash:
		time.Sleep(pause)
		return hash(conn, reader)
	case opRandom:
		return random(conn, argument)
	default:
		return fmt.Errorf("no service %q", head[0])
	}
}

func web(conn *net.TCPConn, reader io.Reader) error {
	body := bytes.Repeat([]byte{'x'}, pingSize)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n", len(body))
	response := append([]byte(head), body...)
	requests := bufio.NewReaderSize(reader, readerSize)
	for {
		request, err := http.ReadRequest(requests)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return err
		}
		if _, err := conn.Write(response); err != nil {
			return err
		}
	}
}

func sink(conn *net.TCPConn, reader io.Reader) error {
	total, err := drain(reader)
	if err != nil {
		return err
	}
	_, err = conn.Write(binary.BigEndian.AppendUint64(nil, total))
	return err
}

// drain reads until the end and counts.
func drain(reader io.Reader) (uint64, error) {
	buffer := make([]byte, chunkSize)
	var total uint64
	for {
		n, err := reader.Read(buffer)
		total += uint64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// flood writes until the deadline and counts.
func flood(writer io.Writer, until time.Time) (uint64, error) {
	buffer := make([]byte, chunkSize)
	var total uint64
	for time.Now().Before(until) {
		n, err := writer.Write(buffer)
		total += uint64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func source(conn *net.TCPConn, duration time.Duration) error {
	if _, err := flood(conn, time.Now().Add(duration)); err != nil {
		return err
	}
	return conn.CloseWrite()
}

func echo(conn *net.TCPConn, reader io.Reader) error {
	buffer := make([]byte, readerSize)
	for {
		n, err := reader.Read(buffer)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return err
		}
	}
}

func hash(conn *net.TCPConn, reader io.Reader) error {
	digest := sha256.New()
	if _, err := io.CopyBuffer(digest, reader, make([]byte, chunkSize)); err != nil {
		return err
	}
	_, err := conn.Write(digest.Sum(nil))
	return err
}

func random(conn *net.TCPConn, size uint64) error {
	digest := sha256.New()
	if err := writeRandom(io.MultiWriter(conn, digest), size); err != nil {
		return err
	}
	if _, err := conn.Write(digest.Sum(nil)); err != nil {
		return err
	}
	return conn.CloseWrite()
}

func writeRandom(writer io.Writer, size uint64) error {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], rand.Uint64())
	_, err := io.CopyBuffer(writer, io.LimitReader(rand.NewChaCha8(seed), int64(size)), make([]byte, chunkSize))
	return err
}
