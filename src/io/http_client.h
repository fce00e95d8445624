// HttpClient: GET and POST over libcurl, for servers that are asked many small things. One at a time, over a connection
// that is kept; not thread-safe.
//
// What it does on purpose:
// - TLS is verified, always: against the system's certificates, or those of the file that SSL_CERT_FILE names. Plain
//   http is for loopback alone, unless the caller allows it.
// - The bearer key goes to the origin of the URL that was asked for and nowhere else: redirects are not followed (the
//   error names the host), ~/.netrc is not read, plain http takes no proxy. It is in no error, and BlankOut takes it
//   out of what a server sends back. A key or password inside a URL is refused.
// - Bodies are capped, and not decompressed: what a server sends cannot outgrow the cap. (HTTP/1.1, identity.)
// - 408, 425, 429, 500, 502, 503, 504, a connection that is refused or broken off: tried again, max_tries times in all,
//   after first_wait 2^i seconds or what Retry-After says; where that is above max_wait, an error says so. So a request
//   may reach the server more than once.
//
// libcurl is loaded when the first client is made, not with the program: it and its 30 libraries cost 6 MiB and 16 ms.
// Resident memory of a client: those, and max_body_bytes at most; the caller leases them (kHttpResidentBytes).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::io {

constexpr uint64_t kHttpResidentBytes = 12u << 20;  // libcurl, OpenSSL's tables of certificates and a connection

struct HttpOptions {
  double connect_seconds = 15;
  double stall_seconds = 120;  // without one byte, the wait for the first included
  double total_seconds = 600;  // of one try
  uint64_t max_body_bytes = 64u << 20;
  int max_tries = 5;
  double first_wait_seconds = 0.5, max_wait_seconds = 120;
  bool allow_plain_http = false;  // also to hosts that are not this machine
  std::string bearer;             // a key; empty: none
  const std::atomic<bool>* cancelled = nullptr;
};

struct HttpResponse {
  int status = 0;            // 200 to 299; others as HttpRequest::accept_refusals allows
  std::string content_type;  // lower case, without parameters
  std::string body;          // as it came: BlankOut before any of it is shown or kept
};

struct HttpRequest {
  std::string url;
  std::string json = {};         // sent by POST; empty: GET
  bool accept_refusals = false;  // 4xx but those that are tried again, and 500, come as a response, not as an error
};

struct HttpStats {
  uint64_t num_requests = 0, num_retries = 0;
  uint64_t bytes_sent = 0, bytes_received = 0;  // bodies
  double seconds = 0, waited_seconds = 0;       // all; and between tries
};

class HttpClient {
 public:
  // kUnsupported where libcurl cannot be loaded.
  static Result<std::unique_ptr<HttpClient>> Create(const HttpOptions& options);
  virtual ~HttpClient() = default;

  // kUsage for a URL that is none, or that a key must not go to; kRead for whatever network and server do, with the
  // host, what was tried, and the first words of what the server said; kCancelled.
  virtual Result<HttpResponse> Send(const HttpRequest& request) = 0;
  virtual const HttpStats& stats() const = 0;
};

// Parts of "https://host:port/path". kUsage: another scheme, no host, a user or password, a query or a fragment, and
// what is not printable ASCII.
struct HttpUrl {
  std::string scheme, host, path;  // path without a "/" at its end
  int port = 0;                    // 0: the scheme's
  bool IsLoopback() const;         // localhost, 127.0.0.0/8, [::1]
  std::string ToString() const;
};
Result<HttpUrl> ParseHttpUrl(std::string_view text);

// `text` with every occurrence of a secret (if it has 4 bytes or more) replaced by "[key]", and cut to `max_bytes` with
// control characters as spaces: what may be shown of a server's words.
std::string BlankOut(std::string_view text, std::string_view secret, size_t max_bytes = SIZE_MAX);

}  // namespace sluice::io
