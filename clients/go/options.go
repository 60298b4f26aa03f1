package gearshift

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/gearshift-ai/gearshift/clients/go/gearshiftv1"
)

// DefaultTimeout is how long a call may take when nobody says.
const DefaultTimeout = 300 * time.Second

// MaxMessageBytes is the largest message, both ways: three images of the 20 MiB that the contract allows, and room.
const MaxMessageBytes = 64 << 20

const (
	maxMetadataBytes = 64 << 10
	// With windows of a fixed size grpc does not probe for larger ones, so that a stream that nobody reads stops its
	// server early. One unread stream does not hold the others back: the connection has a window of its own.
	streamWindowBytes     = 64 << 10
	connectionWindowBytes = 1 << 20
	minKeepalive          = 30 * time.Second
)

// Option is what a client is made with. Later options win.
type Option func(*settings) error

// settings is what the options add up to. A key is never printed.
type settings struct {
	tls            *tls.Config
	key            string
	plaintextKey   bool
	retries        *RetryPolicy
	roundRobin     bool
	serviceConfig  string
	defaultTimeout time.Duration
	dialOptions    []grpc.DialOption
}

// RetryPolicy says how calls that ended as UNAVAILABLE are tried again, before anything was received. The server's
// word on waiting wins; it says no when retrying would multiply a storm.
type RetryPolicy struct {
	// Attempts is how many calls there are in all, 2 to 5 (gRPC allows no more); 0 is 3.
	Attempts int
	// InitialBackoff is above 0; 0 is 200 ms. It doubles with each attempt, with jitter.
	InitialBackoff time.Duration
	// MaxBackoff is at least InitialBackoff; 0 is 5 s.
	MaxBackoff time.Duration
}

// WithTLS speaks TLS; nil believes the system's roots.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		s.tls = config.Clone()
		if s.tls == nil {
			s.tls = &tls.Config{}
		}
		if s.tls.MinVersion == 0 {
			s.tls.MinVersion = tls.VersionTLS12
		}
		return nil
	}
}

// WithCA speaks TLS and believes the authorities in a PEM file only.
func WithCA(file string) Option {
	return func(s *settings) error {
		roots, err := rootsFrom(file)
		if err != nil {
			return err
		}
		return WithTLS(&tls.Config{RootCAs: roots})(s)
	}
}

// WithMTLS speaks TLS and shows a certificate of its own. The files are PEM; caFile may be empty for the system's
// roots. Certificate and key are read again for each new connection, so that they may be replaced in place.
func WithMTLS(caFile, certificateFile, keyFile string) Option {
	return func(s *settings) error {
		config := &tls.Config{
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair(certificateFile, keyFile)
				return &pair, err
			},
		}
		if _, err := tls.LoadX509KeyPair(certificateFile, keyFile); err != nil {
			return fmt.Errorf("gearshift: the client's certificate: %w", err)
		}
		if caFile != "" {
			roots, err := rootsFrom(caFile)
			if err != nil {
				return err
			}
			config.RootCAs = roots
		}
		return WithTLS(config)(s)
	}
}

// WithKey shows an API key with every call, as `gearshift keys create` issued it; empty sends none. Beyond this
// machine it needs TLS.
func WithKey(key string) Option {
	return func(s *settings) error {
		for _, char := range []byte(key) {
			if char <= ' ' || char >= 0x7f {
				return errors.New("gearshift: an API key is printable ASCII without spaces")
			}
		}
		s.key, s.plaintextKey = key, false
		return nil
	}
}

// WithPlaintextKey is [WithKey] that allows the key to cross a network in the clear, where anyone on the way can read
// it.
func WithPlaintextKey(key string) Option {
	return func(s *settings) error {
		err := WithKey(key)(s)
		s.plaintextKey = true
		return err
	}
}

// WithDefaultTimeout gives calls whose context has no deadline this long, above 0; without it they have
// [DefaultTimeout].
func WithDefaultTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		if timeout <= 0 {
			return errors.New("gearshift: a timeout is above 0")
		}
		s.defaultTimeout = timeout
		return nil
	}
}

// WithRetries tries calls again that ended as UNAVAILABLE. Each call is then given a request id, so that a repeat
// joins the first instead of being paid twice.
func WithRetries(policy RetryPolicy) Option {
	return func(s *settings) error {
		if policy.Attempts == 0 {
			policy.Attempts = 3
		}
		if policy.InitialBackoff == 0 {
			policy.InitialBackoff = 200 * time.Millisecond
		}
		if policy.MaxBackoff == 0 {
			policy.MaxBackoff = 5 * time.Second
		}
		if policy.Attempts < 2 || policy.Attempts > 5 {
			return errors.New("gearshift: Attempts is 2 to 5")
		}
		if policy.InitialBackoff < 0 || policy.MaxBackoff < policy.InitialBackoff {
			return errors.New("gearshift: InitialBackoff is above 0 and at most MaxBackoff")
		}
		s.retries = &policy
		return nil
	}
}

// WithRoundRobin spreads calls over all addresses of the target; without it they stay on one.
func WithRoundRobin() Option {
	return func(s *settings) error {
		s.roundRobin = true
		return nil
	}
}

// WithServiceConfig sets gRPC's service config, JSON, instead of the one that [WithRetries] and [WithRoundRobin] make.
func WithServiceConfig(config string) Option {
	return func(s *settings) error {
		if !json.Valid([]byte(config)) {
			return errors.New("gearshift: the service config is no JSON")
		}
		s.serviceConfig = config
		return nil
	}
}

// WithKeepalive asks after interval of silence whether the server is still there, and waits timeout for the answer.
// interval is at least 30 s, since servers close connections that ask more often; timeout is above 0.
func WithKeepalive(interval, timeout time.Duration) Option {
	return func(s *settings) error {
		if interval < minKeepalive || timeout <= 0 {
			return errors.New("gearshift: the interval is at least 30 s, the timeout above 0")
		}
		parameters := keepalive.ClientParameters{Time: interval, Timeout: timeout}
		s.dialOptions = append(s.dialOptions, grpc.WithKeepaliveParams(parameters))
		return nil
	}
}

// WithDialOptions sets gRPC's own options; they win over what the other options say.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.dialOptions = append(s.dialOptions, options...)
		return nil
	}
}

func settingsFrom(options []Option) (*settings, error) {
	made := &settings{defaultTimeout: DefaultTimeout}
	for _, option := range options {
		if err := option(made); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// grpcOptions gives what grpc is told; the caller's own options come last, and win.
func (s *settings) grpcOptions() []grpc.DialOption {
	security := insecure.NewCredentials()
	if s.tls != nil {
		security = credentials.NewTLS(s.tls)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes),
		),
		grpc.WithMaxHeaderListSize(maxMetadataBytes),
		grpc.WithStaticStreamWindowSize(streamWindowBytes),
		grpc.WithStaticConnWindowSize(connectionWindowBytes),
	}
	if config := s.grpcServiceConfig(); config != "" {
		options = append(options, grpc.WithDefaultServiceConfig(config))
	}
	return append(options, s.dialOptions...)
}

func (s *settings) grpcServiceConfig() string {
	if s.serviceConfig != "" {
		return s.serviceConfig
	}
	config := map[string]any{}
	if s.roundRobin {
		config["loadBalancingConfig"] = []any{map[string]any{"round_robin": struct{}{}}}
	}
	if s.retries != nil {
		services := []any{}
		for _, name := range []string{
			gearshiftv1.RouterService_ServiceDesc.ServiceName, gearshiftv1.OpsService_ServiceDesc.ServiceName,
		} {
			services = append(services, map[string]string{"service": name})
		}
		config["methodConfig"] = []any{map[string]any{"name": services, "retryPolicy": map[string]any{
			"maxAttempts":          s.retries.Attempts,
			"initialBackoff":       seconds(s.retries.InitialBackoff),
			"maxBackoff":           seconds(s.retries.MaxBackoff),
			"backoffMultiplier":    2,
			"retryableStatusCodes": []string{"UNAVAILABLE"},
		}}}
		// A server in trouble is not asked again by everybody: retries stop when half of the calls fail.
		config["retryThrottling"] = map[string]any{"maxTokens": 10, "tokenRatio": 0.1}
	}
	if len(config) == 0 {
		return ""
	}
	text, _ := json.Marshal(config) // of strings and numbers: it cannot fail
	return string(text)
}

// seconds gives a duration as protobuf's JSON writes it.
func seconds(duration time.Duration) string { return fmt.Sprintf("%.9fs", duration.Seconds()) }

func rootsFrom(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("gearshift: the authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("gearshift: %s holds no certificate", file)
	}
	return roots, nil
}

// staysHere tells whether a target names this machine only; one that cannot be read does not.
func staysHere(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	address := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(target, "dns:"), "passthrough:"), "/")
	host := address
	if name, _, err := net.SplitHostPort(address); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
