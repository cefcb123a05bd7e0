package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

const (
	dialTimeout  = 20 * time.Second
	pingSize     = 1 << 10
	greetingSize = 64
)

// job is one line of stdin.
type job struct {
	Work     string  `json:"work"`
	Target   string  `json:"target"`
	Parallel int     `json:"parallel"`
	Seconds  float64 `json:"seconds"`
	Bytes    uint64  `json:"bytes"`
	Rate     float64 `json:"rate"`
}

func (j job) duration() time.Duration { return time.Duration(j.Seconds * float64(time.Second)) }

// result is one line of stdout. Seconds is what the work really took.
type result struct {
	Error   string  `json:"error"`
	Count   uint64  `json:"count"`
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
	Max     float64 `json:"max_us"`
}

// held are the idle connections, until they are released.
var held []*net.TCPConn

var works = map[string]func(job) (result, error){
	"bulk_up":   func(j job) (result, error) { return streams(j, up) },
	"bulk_down": func(j job) (result, error) { return streams(j, down) },
	"ping":      ping,
	"http":      requests,
	"connect":   connect,
	"hold":      hold,
	"release":   release,
	"verify":    verify,

	"verify_server_ends_first": verifyServerEndsFirst,
}

func drive(input io.Reader, output io.Writer) error {
	lines := bufio.NewScanner(input)
	for lines.Scan() {
		var j job
		if err := json.Unmarshal(lines.Bytes(), &j); err != nil {
			return fmt.Errorf("not a job: %w", err)
		}
		work, known := works[j.Work]
		if !known {
			return fmt.Errorf("no work is called %q", j.Work)
		}
		began := time.Now()
		done, err := work(j)
		if done.Seconds == 0 {
			done.Seconds = time.Since(began).Seconds()
		}
		if err != nil {
			done.Error = fmt.Sprintf("%s ×%d to %s: %v", j.Work, j.Parallel, j.Target, err)
		}
		if err := json.NewEncoder(output).Encode(done); err != nil {
			return err
		}
	}
	return lines.Err()
}

func dial(target string, greeting []byte) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	conn, err := dialer.Dial("tcp", target)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(greeting); err != nil {
		conn.Close()
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// together runs n copies of a function and returns the first error.
func together(n int, run func(index int) error) error {
	done := make(chan error)
	for index := range n {
		go func() { done <- run(index) }()
	}
	var first error
	for range n {
		if err := <-done; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// streams carries bytes over several connections at once and counts those that arrived.
func streams(j job, carry func(job) (uint64, error)) (result, error) {
	arrived := make([]uint64, j.Parallel)
	began := time.Now()
	err := together(j.Parallel, func(index int) (err error) {
		arrived[index], err = carry(j)
		return err
	})
	var total uint64
	for _, bytes := range arrived {
		total += bytes
	}
	return result{Bytes: total, Seconds: time.Since(began).Seconds()}, err
}

func up(j job) (uint64, error) {
	conn, err := dial(j.Target, header(opSink, 0))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	sent, err := flood(conn, time.Now().Add(j.duration()))
	if err != nil {
		return 0, err
	}
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	var answer [8]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return 0, err
	}
	if arrived := binary.BigEndian.Uint64(answer[:]); arrived != sent {
		return 0, fmt.Errorf("%d bytes sent, %d arrived", sent, arrived)
	}
	return sent, nil
}

func down(j job) (uint64, error) {
	conn, err := dial(j.Target, header(opSource, uint64(j.duration().Milliseconds())))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	// Envoy may reset a stream whose server ends first and lose what is on its way: let the client end first.
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	return drain(conn)
}

// ping exchanges 1 KiB on open connections, each waiting for its answer.
func ping(j job) (result, error) {
	conns, err := open(j)
	defer closeAll(conns)
	if err != nil {
		return result{}, err
	}
	times := make([][]time.Duration, j.Parallel)
	began := time.Now()
	err = together(j.Parallel, func(index int) (err error) {
		times[index], err = exchange(conns[index], began.Add(j.duration()))
		return err
	})
	took := time.Since(began).Seconds()
	all := slices.Concat(times...)
	slices.Sort(all)
	return result{Count: uint64(len(all)), Seconds: took, P50: percentile(all, 50), P99: percentile(all, 99), Max: percentile(all, 100)}, err
}

func exchange(conn *net.TCPConn, until time.Time) ([]time.Duration, error) {
	times := make([]time.Duration, 0, 1<<16)
	request, answer := bytes.Repeat([]byte{7}, pingSize), make([]byte, pingSize)
	for began := time.Now(); began.Before(until); {
		if _, err := conn.Write(request); err != nil {
			return times, err
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			return times, err
		}
		now := time.Now()
		times = append(times, now.Sub(began))
		began = now
	}
	return times, nil
}

// requests of HTTP on open connections at a rate: a late answer makes the next ones late, and that counts.
func requests(j job) (result, error) {
	clients := make([]*client, j.Parallel)
	err := together(j.Parallel, func(index int) (err error) {
		clients[index], err = meet(j.Target)
		return err
	})
	defer func() {
		for _, one := range clients {
			if one != nil {
				one.conn.Close()
			}
		}
	}()
	if err != nil {
		return result{}, err
	}
	times := make([][]time.Duration, j.Parallel)
	interval := time.Duration(float64(j.Parallel) / j.Rate * float64(time.Second))
	began := time.Now()
	err = together(j.Parallel, func(index int) (err error) {
		first := began.Add(interval * time.Duration(index) / time.Duration(j.Parallel))
		for due := first; due.Before(began.Add(j.duration())); due = due.Add(interval) {
			time.Sleep(time.Until(due))
			if err := clients[index].ask(); err != nil {
				return err
			}
			times[index] = append(times[index], time.Since(due))
		}
		return nil
	})
	took := time.Since(began).Seconds()
	all := slices.Concat(times...)
	slices.Sort(all)
	return result{Count: uint64(len(all)), Seconds: took, P50: percentile(all, 50), P99: percentile(all, 99), Max: percentile(all, 100)}, err
}

// client is one connection, of which the way is known to be there.
type client struct {
	conn   *net.TCPConn
	reader *bufio.Reader
}

func meet(target string) (*client, error) {
	conn, err := dial(target, nil)
	if err != nil {
		return nil, err
	}
	one := &client{conn, bufio.NewReaderSize(conn, readerSize)}
	if err := one.ask(); err != nil {
		conn.Close()
		return nil, err
	}
	return one, nil
}

var request = []byte("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n")

func (c *client) ask() error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered with %s", response.Status)
	}
	return nil
}

// percentile of sorted times, in microseconds.
func percentile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[(len(sorted)-1)*percent/100].Nanoseconds()) / 1000
}

// connect makes connections, each with one exchange, one after the other in every lane.
func connect(j job) (result, error) {
	made := make([]uint64, j.Parallel)
	began := time.Now()
	until := began.Add(j.duration())
	err := together(j.Parallel, func(index int) error {
		for time.Now().Before(until) {
			conn, err := greet(j.Target)
			if err != nil {
				return fmt.Errorf("after %d connections: %w", made[index], err)
			}
			conn.Close()
			made[index]++
		}
		return nil
	})
	var total uint64
	for _, count := range made {
		total += count
	}
	return result{Count: total, Seconds: time.Since(began).Seconds()}, err
}

// greet makes a connection and proves with one exchange that it goes all the way.
func greet(target string) (*net.TCPConn, error) {
	greeting := append(header(opEcho, 0), bytes.Repeat([]byte{9}, greetingSize)...)
	conn, err := dial(target, greeting)
	if err != nil {
		return nil, err
	}
	var answer [greetingSize]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func open(j job) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, 0, j.Parallel)
	for range j.Parallel {
		conn, err := greet(j.Target)
		if err != nil {
			return conns, fmt.Errorf("after %d connections: %w", len(conns), err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeAll(conns []*net.TCPConn) {
	for _, conn := range conns {
		conn.Close()
	}
}

func hold(j job) (result, error) {
	conns, err := open(j)
	held = append(held, conns...)
	return result{Count: uint64(len(held))}, err
}

func release(job) (result, error) {
	closeAll(held)
	held = nil
	return result{}, nil
}
