// Istio's own HBONE, as a client or a server on a host: pairs of a listener and what is behind it.
//
//	hbone client LISTEN PROXY TARGET   each connection to LISTEN becomes a CONNECT to TARGET through PROXY
//	hbone server LISTEN                serves CONNECTs
//
// The environment says who it is: CHAIN, KEY and ROOTS are files of PEM. Says "ready" when it listens.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"istio.io/istio/pkg/hbone"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[2])
	check(err)
	fmt.Println("ready")
	if os.Args[1] == "server" {
		check(hbone.NewServer().Serve(secured{listener}))
	}
	proxy, target := os.Args[3], os.Args[4]
	dialer := hbone.NewDialer(hbone.Config{ProxyAddress: proxy, TLS: mutual()})
	for {
		conn, err := listener.Accept()
		check(err)
		go carry(conn, dialer, target)
	}
}

// secured hides TLS from a server that speaks HTTP/2 only where it sees none.
type secured struct{ net.Listener }

func (s secured) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	config := mutual()
	config.NextProtos = []string{"h2"}
	return struct{ net.Conn }{tls.Server(conn, config)}, nil
}

func carry(conn net.Conn, dialer hbone.Dialer, target string) {
	defer conn.Close()
	tunnel, err := dialer.Dial("tcp", target)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		io.Copy(tunnel, conn)
		tunnel.Close()
	}()
	io.Copy(conn, tunnel)
}

// mutual proves who we are and believes who has a certificate of the mesh; names in it are SPIFFE's, not hosts'.
func mutual() *tls.Config {
	own, err := tls.LoadX509KeyPair(os.Getenv("CHAIN"), os.Getenv("KEY"))
	check(err)
	pem, err := os.ReadFile(os.Getenv("ROOTS"))
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{
		Certificates:       []tls.Certificate{own},
		ClientAuth:         tls.RequireAndVerifyClientCert,
		ClientCAs:          roots,
		InsecureSkipVerify: true,
		VerifyPeerCertificate: func(sent [][]byte, _ [][]*x509.Certificate) error {
			if len(sent) == 0 {
				return errors.New("no certificate")
			}
			leaf, err := x509.ParseCertificate(sent[0])
			if err != nil {
				return err
			}
			_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
		MinVersion: tls.VersionTLS13,
	}
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
