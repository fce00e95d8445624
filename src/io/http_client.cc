#include "io/http_client.h"

#include <curl/curl.h>
#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"

namespace sluice::io {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Of ASCII, and no space.
bool IsPrintable(char c) { return c > 0x20 && c < 0x7f && static_cast<unsigned char>(c) < 0x80; }

// What is used of libcurl, found when it is first needed.
struct CurlCalls {
  decltype(&::curl_global_init) global_init;
  decltype(&::curl_easy_init) easy_init;
  decltype(&::curl_easy_cleanup) easy_cleanup;
  decltype(&::curl_easy_reset) easy_reset;
  decltype(&::curl_easy_setopt) easy_setopt;
  decltype(&::curl_easy_perform) easy_perform;
  decltype(&::curl_easy_getinfo) easy_getinfo;
  decltype(&::curl_easy_strerror) easy_strerror;
  decltype(&::curl_slist_append) slist_append;
  decltype(&::curl_slist_free_all) slist_free_all;
};

Result<CurlCalls> LoadCurl() {
  void* library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);  // stays: it has threads and locks of its own
  if (library == nullptr) {
    return Fail(ErrorCode::kUnsupported, fmt::format("HTTP needs libcurl (Debian's libcurl4): {}", dlerror()));
  }
  CurlCalls calls;
  std::string missing;
  const auto find = [&](const char* name, auto* function) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library, name));
    if (*function == nullptr) missing = name;
  };
  find("curl_global_init", &calls.global_init);
  find("curl_easy_init", &calls.easy_init);
  find("curl_easy_cleanup", &calls.easy_cleanup);
  find("curl_easy_reset", &calls.easy_reset);
  find("curl_easy_setopt", &calls.easy_setopt);
  find("curl_easy_perform", &calls.easy_perform);
  find("curl_easy_getinfo", &calls.easy_getinfo);
  find("curl_easy_strerror", &calls.easy_strerror);
  find("curl_slist_append", &calls.slist_append);
  find("curl_slist_free_all", &calls.slist_free_all);
  if (!missing.empty()) {
    return Fail(ErrorCode::kUnsupported, fmt::format("HTTP needs libcurl 7.85 or newer: this one has no {}", missing));
  }
  if (calls.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    return Fail(ErrorCode::kUnsupported, "libcurl does not start");
  }
  return calls;
}

// Loaded once, whatever came of it.
const Result<CurlCalls>& Curl() {
  static const Result<CurlCalls> calls = LoadCurl();
  return calls;
}

bool MayBeTriedAgain(long status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

// Not for what would be the same again: a certificate, a name, a body beyond the cap, an interruption.
bool MayBeTriedAgain(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

struct Transfer {
  std::string body, location;
  uint64_t max_body_bytes = 0;
  bool too_large = false;
  const std::atomic<bool>* cancelled = nullptr;
};

size_t TakeBody(const char* bytes, size_t size, size_t count, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  const size_t all = size * count;
  if (all > transfer->max_body_bytes - transfer->body.size()) {
    transfer->too_large = true;
    return 0;
  }
  transfer->body.append(bytes, all);
  return all;
}

int Watch(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto* cancelled = static_cast<Transfer*>(user)->cancelled;
  return cancelled != nullptr && *cancelled ? 1 : 0;
}

// The words of an error that a server gives in JSON, or else of its body.
std::string WordsOf(const std::string& body, const std::string& key) {
  constexpr size_t kMostWords = 200;
  std::string words = BlankOut(body, key, kMostWords);
  return words.empty() ? "" : ": it says: " + words;
}

class CurlClient final : public HttpClient {
 public:
  CurlClient(const CurlCalls& curl, const HttpOptions& options) : curl_(curl), options_(options) {
    handle_ = curl_.easy_init();
    SLUICE_CHECK(handle_ != nullptr);
  }
  ~CurlClient() override { curl_.easy_cleanup(handle_); }

  const HttpStats& stats() const override { return stats_; }

  Result<HttpResponse> Send(const HttpRequest& request) override {
    SLUICE_ASSIGN(const HttpUrl url, ParseHttpUrl(request.url));
    if (url.scheme == "http" && !url.IsLoopback() && !options_.allow_plain_http) {
      return Fail(ErrorCode::kUsage, fmt::format("{}: plain http to another machine: anyone on the way can read and "
                                                 "change what is asked and answered; take https",
                                                 url.ToString()));
    }
    const auto begin = Clock::now();
    auto response = TryUntilDone(url, request);
    stats_.seconds += SecondsSince(begin);
    if (!response) return Fail(std::move(response.error()).In(url.ToString()));
    return response;
  }

 private:
  struct Once {
    CURLcode code = CURLE_OK;
    long status = 0;
    double retry_after_seconds = 0;
    HttpResponse response;
    Transfer transfer;
  };

  Result<HttpResponse> TryUntilDone(const HttpUrl& url, const HttpRequest& request) {
    double wait = options_.first_wait_seconds;
    for (int tries = 1;; ++tries) {
      ++stats_.num_requests;
      Once once = TryOnce(url, request);
      stats_.bytes_sent += request.json.size();
      stats_.bytes_received += once.transfer.body.size();
      if (Cancelled()) return Fail(ErrorCode::kCancelled, "interrupted");
      const bool is_refusal = request.accept_refusals && once.status == 500;
      const bool again =
          once.code == CURLE_OK ? MayBeTriedAgain(once.status) && !is_refusal : MayBeTriedAgain(once.code);
      if (!again) return Judge(std::move(once), request);
      const double asked = std::max(wait, once.retry_after_seconds);
      const std::string what = once.code == CURLE_OK
                                   ? fmt::format("HTTP {}{}", once.status, WordsOf(once.transfer.body, options_.bearer))
                                   : std::string(curl_.easy_strerror(once.code));
      if (tries >= options_.max_tries) {
        return Fail(ErrorCode::kRead, tries == 1 ? what : fmt::format("after {} tries: {}", tries, what));
      }
      if (asked > options_.max_wait_seconds) {
        return Fail(ErrorCode::kRead,
                    fmt::format("the server wants {} until the next try, {} are waited at most: {}",
                                FormatSeconds(asked), FormatSeconds(options_.max_wait_seconds), what));
      }
      ++stats_.num_retries;
      if (!Wait(asked)) return Fail(ErrorCode::kCancelled, "interrupted");
      wait = std::min(2 * wait, options_.max_wait_seconds);
    }
  }

  Once TryOnce(const HttpUrl& url, const HttpRequest& request) {
    Once once;
    once.transfer.max_body_bytes = options_.max_body_bytes;
    once.transfer.cancelled = options_.cancelled;
    curl_.easy_reset(handle_);  // the connection stays
    const auto set = [&](CURLoption option, auto value) {
      SLUICE_CHECK(curl_.easy_setopt(handle_, option, value) == CURLE_OK);
    };
    set(CURLOPT_URL, url.ToString().c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (const char* file = std::getenv("SSL_CERT_FILE"); file != nullptr && *file != 0) set(CURLOPT_CAINFO, file);
    if (url.scheme == "http") set(CURLOPT_PROXY, "");
    set(CURLOPT_CONNECTTIMEOUT_MS, Milliseconds(options_.connect_seconds));
    set(CURLOPT_TIMEOUT_MS, Milliseconds(options_.total_seconds));
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, std::max(1L, std::lround(options_.stall_seconds)));
    set(CURLOPT_USERAGENT, "sluice");
    set(CURLOPT_WRITEFUNCTION, &TakeBody);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&once.transfer));
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &Watch);
    set(CURLOPT_XFERINFODATA, static_cast<void*>(&once.transfer));
    curl_slist* headers = nullptr;
    const auto add = [&](const std::string& line) {
      headers = curl_.slist_append(headers, line.c_str());
      SLUICE_CHECK(headers != nullptr);
    };
    add("Accept: application/json");
    if (!options_.bearer.empty()) add("Authorization: Bearer " + options_.bearer);
    if (!request.json.empty()) {
      add("Content-Type: application/json");
      add("Expect:");  // no round trip before the body
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.json.size()));
      set(CURLOPT_POSTFIELDS, request.json.data());
    }
    set(CURLOPT_HTTPHEADER, headers);
    once.code = curl_.easy_perform(handle_);
    const char* type = nullptr;
    const char* location = nullptr;
    curl_off_t retry_after = 0;
    curl_.easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &once.status);
    curl_.easy_getinfo(handle_, CURLINFO_RETRY_AFTER, &retry_after);
    curl_.easy_getinfo(handle_, CURLINFO_CONTENT_TYPE, &type);
    curl_.easy_getinfo(handle_, CURLINFO_REDIRECT_URL, &location);
    once.retry_after_seconds = static_cast<double>(retry_after);
    if (location != nullptr) once.transfer.location = location;
    if (type != nullptr) {
      const std::string_view whole(type);
      for (const char c : whole.substr(0, whole.find_first_of("; "))) {
        once.response.content_type += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      }
    }
    curl_.slist_free_all(headers);
    return once;
  }

  // Of a try that will not be repeated.
  Result<HttpResponse> Judge(Once once, const HttpRequest& request) const {
    if (once.transfer.too_large) {
      return Fail(ErrorCode::kRead, fmt::format("the answer is larger than {}, the most that is taken",
                                                FormatBytes(options_.max_body_bytes)));
    }
    if (once.code == CURLE_OPERATION_TIMEDOUT) {
      return Fail(ErrorCode::kRead,
                  fmt::format("no answer in time ({} to connect, {} without a byte, {} in all are waited)",
                              FormatSeconds(options_.connect_seconds), FormatSeconds(options_.stall_seconds),
                              FormatSeconds(options_.total_seconds)));
    }
    if (once.code != CURLE_OK) return Fail(ErrorCode::kRead, curl_.easy_strerror(once.code));
    if (once.status >= 300 && once.status < 400) {
      auto target = ParseHttpUrl(once.transfer.location);
      return Fail(ErrorCode::kRead,
                  fmt::format("HTTP {}: the server points elsewhere ({}), and a key is sent to no address that was not "
                              "named: name that one if it is meant",
                              once.status, target ? BlankOut(target->ToString(), options_.bearer, 200) : "no address"));
    }
    const bool refused = once.status >= 400 && once.status <= 500;
    if (once.status < 200 || once.status >= 300) {
      if (!refused || !request.accept_refusals) {
        const bool about_key = once.status == 401 || once.status == 403;
        return Fail(ErrorCode::kRead, fmt::format("HTTP {}{}{}", once.status,
                                                  about_key && options_.bearer.empty() ? " (no key was given)" : "",
                                                  WordsOf(once.transfer.body, options_.bearer)));
      }
    }
    once.response.status = static_cast<int>(once.status);
    once.response.body = std::move(once.transfer.body);
    return std::move(once.response);
  }

  static long Milliseconds(double seconds) { return std::max(1L, std::lround(seconds * 1000)); }
  bool Cancelled() const { return options_.cancelled != nullptr && *options_.cancelled; }

  bool Wait(double seconds) {
    const auto begin = Clock::now();
    double waited = 0;
    for (; waited < seconds && !Cancelled(); waited = SecondsSince(begin)) {
      std::this_thread::sleep_for(std::chrono::duration<double>(std::min(0.05, seconds - waited)));
    }
    stats_.waited_seconds += waited;
    return !Cancelled();
  }

  const CurlCalls curl_;
  const HttpOptions options_;
  CURL* handle_;
  HttpStats stats_;
};

}  // namespace

Result<std::unique_ptr<HttpClient>> HttpClient::Create(const HttpOptions& options) {
  const auto& curl = Curl();
  if (!curl) return Fail(curl.error());
  if (!std::ranges::all_of(options.bearer, IsPrintable)) {
    return Fail(ErrorCode::kUsage, "the key has spaces, control characters or what is not ASCII in it");
  }
  return std::make_unique<CurlClient>(*curl, options);
}

bool HttpUrl::IsLoopback() const {
  if (host == "localhost" || host == "[::1]") return true;
  // Dotted decimal alone: a name may begin with 127. too.
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos &&
         std::ranges::count(host, '.') == 3;
}

std::string HttpUrl::ToString() const {
  return port == 0 ? fmt::format("{}://{}{}", scheme, host, path)
                   : fmt::format("{}://{}:{}{}", scheme, host, port, path);
}

Result<HttpUrl> ParseHttpUrl(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    // Not the text: it may hold a password.
    return Fail(ErrorCode::kUsage, fmt::format("not an address of a server: {}; want https://host/path", why));
  };
  HttpUrl url;
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return bad("it has no ://");
  for (const char c : text.substr(0, scheme_end)) {
    url.scheme += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (url.scheme != "http" && url.scheme != "https") return bad("its scheme is neither http nor https");
  std::string_view rest = text.substr(scheme_end + 3);
  if (!std::ranges::all_of(rest, IsPrintable)) {
    return bad("it has spaces, control characters or what is not ASCII in it");
  }
  if (rest.find_first_of("?#\\") != std::string_view::npos) return bad("it has a query, a fragment or a backslash");
  const size_t host_end = std::min(rest.find('/'), rest.size());
  std::string_view host = rest.substr(0, host_end);
  url.path = rest.substr(host_end);
  while (url.path.ends_with('/')) url.path.pop_back();
  if (host.find('@') != std::string_view::npos) return bad("it has a user or password, which would be shown and kept");
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    const std::string_view digits = host.substr(colon + 1);
    if (digits.empty() || digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string_view::npos) {
      return bad("its port is no number");
    }
    url.port = std::atoi(std::string(digits).c_str());
    if (url.port < 1 || url.port > 65535) return bad("its port is no number from 1 to 65535");
    host = host.substr(0, colon);
  }
  if (host.empty()) return bad("it has no host");
  const bool is_bracketed = host.starts_with('[') && host.ends_with(']') &&
                            host.find_first_not_of("0123456789abcdefABCDEF:.", 1) == host.size() - 1;
  const bool is_name = host.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") ==
                       std::string_view::npos;
  if (!is_bracketed && !is_name) return bad("its host is none");
  for (const char c : host) url.host += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return url;
}

std::string BlankOut(std::string_view text, std::string_view secret, size_t max_bytes) {
  std::string blanked(text);
  if (secret.size() >= 4) {
    constexpr std::string_view kBlank = "[key]";
    for (size_t at = blanked.find(secret); at != std::string::npos; at = blanked.find(secret, at + kBlank.size())) {
      blanked.replace(at, secret.size(), kBlank);
    }
  }
  if (max_bytes == SIZE_MAX) return blanked;
  // Cut after blanking: a key that the cut parts would not be found.
  if (blanked.size() > max_bytes) {
    blanked.resize(max_bytes);
    while (!blanked.empty() && (static_cast<unsigned char>(blanked.back()) & 0xc0) == 0x80) blanked.pop_back();
    if (!blanked.empty() && static_cast<unsigned char>(blanked.back()) >= 0xc0) blanked.pop_back();
    blanked += "...";
  }
  for (char& c : blanked) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return blanked;
}

}  // namespace sluice::io
