#include "io/http_client.h"

#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

namespace sluice::io {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;

constexpr char kKey[] = "sk-secret-0123456789";

// A server over loopback that lives as long as this.
class LocalServer {
 public:
  explicit LocalServer(std::unique_ptr<httplib::Server> server = std::make_unique<httplib::Server>())
      : server_(std::move(server)) {
    port_ = server_->bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_->listen_after_bind(); });
    while (!server_->is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ~LocalServer() {
    server_->stop();
    thread_.join();
  }
  httplib::Server* operator->() { return server_.get(); }
  std::string Url(const std::string& path, const std::string& scheme = "http") const {
    return fmt::format("{}://127.0.0.1:{}{}", scheme, port_, path);
  }

 private:
  std::unique_ptr<httplib::Server> server_;
  int port_ = 0;
  std::thread thread_;
};

HttpOptions Quick() {
  return {.connect_seconds = 2,
          .stall_seconds = 1,
          .total_seconds = 5,
          .max_body_bytes = 1 << 16,
          .max_tries = 3,
          .first_wait_seconds = 0.01,
          .max_wait_seconds = 2,
          .bearer = kKey};
}

Result<HttpResponse> Send(const HttpRequest& request, const HttpOptions& options = Quick(),
                          HttpStats* stats = nullptr) {
  auto client = HttpClient::Create(options);
  if (!client) return Fail(client.error());
  auto response = (*client)->Send(request);
  if (stats != nullptr) *stats = (*client)->stats();
  return response;
}

std::string ErrorOf(const Result<HttpResponse>& response) {
  if (response) return "no error";
  const std::string text = response.error().ToString();
  EXPECT_THAT(text, Not(HasSubstr(kKey))) << "a key may stand in no error";
  return text;
}

TEST(HttpClientTest, SendsJsonAndTheKeyAndTakesTheAnswer) {
  LocalServer server;
  server->Post("/v1/echo", [](const httplib::Request& request, httplib::Response& response) {
    response.set_content(
        request.get_header_value("Authorization") + "|" + request.get_header_value("Content-Type") + "|" + request.body,
        "application/json; charset=utf-8");
  });
  server->Get("/v1/models", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("{}", "Application/JSON");
  });
  HttpStats stats;
  const auto response = Send({.url = server.Url("/v1/echo/"), .json = R"({"a": 1})"}, Quick(), &stats);
  ASSERT_TRUE(response) << ErrorOf(response);
  EXPECT_EQ(response->body, std::string("Bearer ") + kKey + R"(|application/json|{"a": 1})");
  EXPECT_EQ(response->content_type, "application/json");
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(stats.num_requests, 1u);
  EXPECT_EQ(stats.num_retries, 0u);
  EXPECT_EQ(stats.bytes_sent, 8u);
  EXPECT_EQ(stats.bytes_received, response->body.size());
  const auto models = Send({.url = server.Url("/v1/models")});
  ASSERT_TRUE(models) << ErrorOf(models);
  EXPECT_EQ(models->body, "{}");
  EXPECT_EQ(models->content_type, "application/json");
}

TEST(HttpClientTest, TriesAgainWhatMayPassAndWaitsAsLongAsTheServerAsks) {
  LocalServer server;
  std::atomic<int> calls = 0;
  server->Get("/busy", [&](const httplib::Request&, httplib::Response& response) {
    ++calls;
    if (calls == 1) {
      response.status = 429;
      response.set_header("Retry-After", "1");
    } else if (calls == 2) {
      response.status = 503;
    } else {
      response.set_content("ready", "text/plain");
    }
  });
  HttpStats stats;
  const auto begin = Clock::now();
  const auto response = Send({.url = server.Url("/busy")}, Quick(), &stats);
  ASSERT_TRUE(response) << ErrorOf(response);
  EXPECT_EQ(response->body, "ready");
  EXPECT_EQ(stats.num_requests, 3u);
  EXPECT_EQ(stats.num_retries, 2u);
  EXPECT_GE(std::chrono::duration<double>(Clock::now() - begin).count(), 1.0);
  EXPECT_GE(stats.waited_seconds, 1.0);
}

TEST(HttpClientTest, GivesUpOnAServerThatStaysBusyAndOnOneThatWantsALongWait) {
  LocalServer server;
  std::atomic<int> calls = 0;
  server->Get("/broken", [&](const httplib::Request&, httplib::Response& response) {
    ++calls;
    response.status = 500;
    response.set_content(std::string("no room for ") + kKey + "\nhere", "text/plain");
  });
  server->Get("/tomorrow", [&](const httplib::Request&, httplib::Response& response) {
    response.status = 429;
    response.set_header("Retry-After", "86400");
  });
  const auto broken = Send({.url = server.Url("/broken")});
  EXPECT_EQ(broken.error().code, ErrorCode::kRead);
  EXPECT_THAT(ErrorOf(broken), HasSubstr("after 3 tries: HTTP 500: it says: no room for [key] here"));
  EXPECT_EQ(calls, 3);
  EXPECT_THAT(ErrorOf(Send({.url = server.Url("/tomorrow")})), HasSubstr("until the next try"));
}

TEST(HttpClientTest, RefusalsAreErrorsUnlessTheyWereAskedFor) {
  LocalServer server;
  std::atomic<int> calls = 0;
  server->Post("/v1", [&](const httplib::Request&, httplib::Response& response) {
    ++calls;
    response.status = 400;
    response.set_content(R"({"error": "no echo"})", "application/json");
  });
  server->Post("/broken", [&](const httplib::Request&, httplib::Response& response) {
    ++calls;
    response.status = 500;
  });
  server->Get("/private", [&](const httplib::Request&, httplib::Response& response) { response.status = 401; });
  EXPECT_THAT(ErrorOf(Send({.url = server.Url("/v1"), .json = "{}"})), HasSubstr(R"(HTTP 400: it says: {"error")"));
  EXPECT_EQ(calls, 1) << "a refusal would be the same again";
  const auto refused = Send({.url = server.Url("/v1"), .json = "{}", .accept_refusals = true});
  ASSERT_TRUE(refused) << ErrorOf(refused);
  EXPECT_EQ(refused->status, 400);
  EXPECT_EQ(refused->body, R"({"error": "no echo"})");
  const auto broken = Send({.url = server.Url("/broken"), .json = "{}", .accept_refusals = true});
  ASSERT_TRUE(broken) << ErrorOf(broken);
  EXPECT_EQ(broken->status, 500);
  EXPECT_EQ(calls, 3) << "asked for once";
  HttpOptions no_key = Quick();
  no_key.bearer.clear();
  EXPECT_THAT(ErrorOf(Send({.url = server.Url("/private")}, no_key)), HasSubstr("HTTP 401 (no key was given)"));
}

TEST(HttpClientTest, AStallEndsInAnError) {
  LocalServer server;
  std::atomic<bool> done = false;
  server->Get("/stall", [&](const httplib::Request&, httplib::Response& response) {
    response.set_content_provider(100, "text/plain", [&](size_t, size_t, httplib::DataSink& sink) {
      sink.write("{", 1);
      while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      return false;
    });
  });
  const auto begin = Clock::now();
  const auto stalled = Send({.url = server.Url("/stall")});
  done = true;
  EXPECT_EQ(stalled.error().code, ErrorCode::kRead);
  EXPECT_THAT(ErrorOf(stalled), HasSubstr("no answer in time"));
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - begin).count(), 4.5) << "by the stall, not by the total";
}

TEST(HttpClientTest, AnAnswerThatBreaksOffIsNone) {
  LocalServer server;
  std::atomic<int> calls = 0;
  server->Get("/half", [&](const httplib::Request&, httplib::Response& response) {
    ++calls;
    response.set_content_provider(100, "text/plain", [](size_t, size_t, httplib::DataSink& sink) {
      sink.write("{\"half\":", 8);
      return false;
    });
  });
  const auto half = Send({.url = server.Url("/half")});
  ASSERT_FALSE(half);
  EXPECT_EQ(half.error().code, ErrorCode::kRead);
  EXPECT_THAT(ErrorOf(half), HasSubstr("after 3 tries: "));
  EXPECT_EQ(calls, 3);
}

TEST(HttpClientTest, NobodyThereIsAnError) {
  // A port that was free a moment ago.
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(socket, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
  close(socket);
  const int port = ntohs(address.sin_port);
  const auto none = Send({.url = fmt::format("http://127.0.0.1:{}/v1", port)});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kRead);
  EXPECT_THAT(ErrorOf(none), HasSubstr(fmt::format("http://127.0.0.1:{}/v1: after 3 tries: ", port)));
}

TEST(HttpClientTest, AHugeAnswerIsCutOffAtTheCap) {
  LocalServer server;
  std::atomic<uint64_t> sent = 0;
  const std::string block(1 << 14, 'x');
  const auto endless = [&](size_t, httplib::DataSink& sink) {
    sent += block.size();
    return sink.write(block.data(), block.size());
  };
  server->Get("/huge", [&](const httplib::Request&, httplib::Response& response) {
    response.set_chunked_content_provider("text/plain", endless);
  });
  server->Get("/exact", [&](const httplib::Request&, httplib::Response& response) {
    response.set_content(std::string(1 << 16, 'x'), "text/plain");
  });
  const auto huge = Send({.url = server.Url("/huge")});
  ASSERT_FALSE(huge);
  EXPECT_THAT(ErrorOf(huge), HasSubstr("larger than"));
  EXPECT_LT(sent, 64u << 20) << "what socket buffers hold, not all of it";
  const auto exact = Send({.url = server.Url("/exact")});
  ASSERT_TRUE(exact) << ErrorOf(exact);
  EXPECT_EQ(exact->body.size(), 1u << 16);
}

TEST(HttpClientTest, ARedirectIsNotFollowed) {
  LocalServer thief;
  std::atomic<int> stolen = 0;
  thief->Get(".*", [&](const httplib::Request&, httplib::Response&) { ++stolen; });
  LocalServer server;
  const std::string target = thief.Url("/v1");
  server->Get("/away", [&](const httplib::Request&, httplib::Response& response) { response.set_redirect(target); });
  server->Get("/leak", [&](const httplib::Request&, httplib::Response& response) {
    response.set_redirect(thief.Url(std::string("/") + kKey));
  });
  EXPECT_THAT(ErrorOf(Send({.url = server.Url("/away")})), HasSubstr("points elsewhere (" + target + ")"));
  EXPECT_THAT(ErrorOf(Send({.url = server.Url("/leak")})), HasSubstr("points elsewhere"));
  EXPECT_EQ(stolen, 0);
}

TEST(HttpClientTest, AnInterruptionEndsAWaitAndATransfer) {
  LocalServer server;
  std::atomic<bool> cancelled = false, done = false;
  server->Get("/busy", [&](const httplib::Request&, httplib::Response& response) {
    cancelled = true;
    response.status = 503;
  });
  server->Get("/slow", [&](const httplib::Request&, httplib::Response&) {
    cancelled = true;
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  });
  HttpOptions options = Quick();
  options.cancelled = &cancelled;
  options.first_wait_seconds = options.max_wait_seconds = 100;
  options.stall_seconds = options.total_seconds = 100;
  for (const char* path : {"/busy", "/slow"}) {
    cancelled = false;
    const auto begin = Clock::now();
    const auto response = Send({.url = server.Url(path)}, options);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, ErrorCode::kCancelled);
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - begin).count(), 20);
  }
  done = true;
}

TEST(HttpClientTest, PlainHttpIsForThisMachineAlone) {
  const auto plain = Send({.url = "http://models.example/v1"});
  ASSERT_FALSE(plain);
  EXPECT_EQ(plain.error().code, ErrorCode::kUsage);
  EXPECT_THAT(ErrorOf(plain), HasSubstr("take https"));
  for (const char* url : {"http://localhost", "http://127.0.0.1:80/v1", "http://127.1.2.3", "http://[::1]:8000"}) {
    const auto parsed = ParseHttpUrl(url);
    ASSERT_TRUE(parsed) << url;
    EXPECT_TRUE(parsed->IsLoopback()) << url;
  }
  for (const char* url :
       {"http://127.0.0.1.example", "http://localhost.example", "http://127.evil.0.1", "http://1.127.0.0"}) {
    const auto parsed = ParseHttpUrl(url);
    ASSERT_TRUE(parsed) << url;
    EXPECT_FALSE(parsed->IsLoopback()) << url;
  }
}

TEST(HttpClientTest, AddressesThatAreNone) {
  const auto good = ParseHttpUrl("HTTPS://Host.Example:8443/V1/");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->ToString(), "https://host.example:8443/V1");
  EXPECT_EQ(ParseHttpUrl("https://[::1]/a")->ToString(), "https://[::1]/a");
  for (const auto& [url, why] : std::initializer_list<std::pair<const char*, const char*>>{
           {"host/v1", "no ://"},
           {"ftp://host", "neither http nor https"},
           {"https://", "no host"},
           {"https:///v1", "no host"},
           {"https://user:sesame@host/v1", "user or password"},
           {"https://host/v1?key=sesame", "a query"},
           {"https://host/v1#m", "a fragment"},
           {"https://host:0/", "port"},
           {"https://host:65536/", "port"},
           {"https://host:/", "port"},
           {"https://ho st/", "spaces"},
           {"https://host\\evil/", "backslash"},
           {"https://h\xc3\xb6st/", "not ASCII"},
           {"https://ho$t/", "host is none"},
           {"https://[::1/", "host is none"},
       }) {
    const auto parsed = ParseHttpUrl(url);
    ASSERT_FALSE(parsed) << url;
    EXPECT_EQ(parsed.error().code, ErrorCode::kUsage);
    EXPECT_THAT(parsed.error().message, HasSubstr(why)) << url;
    EXPECT_THAT(parsed.error().message, Not(HasSubstr("sesame")));
  }
}

TEST(HttpClientTest, AKeyThatWouldBreakTheHeaderIsRefused) {
  HttpOptions options = Quick();
  options.bearer = "abc\r\nX-Evil: 1";
  const auto client = HttpClient::Create(options);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kUsage);
  EXPECT_THAT(client.error().message, Not(HasSubstr("abc")));
}

TEST(HttpClientTest, BlanksOutTheKey) {
  EXPECT_EQ(BlankOut("a sk-1234 b sk-1234", "sk-1234"), "a [key] b [key]");
  EXPECT_EQ(BlankOut("[key[key", "[key"), "[key][key]") << "and comes to an end";
  EXPECT_EQ(BlankOut("a\nb", "", 10), "a b");
  EXPECT_EQ(BlankOut("abcdef", "", 3), "abc...");
  EXPECT_EQ(BlankOut("ab\xc3\xa9", "", 3), "ab...") << "no half of a character";
  EXPECT_EQ(BlankOut("xx sk-1234", "sk-1234", 6), "xx [ke...") << "blanked before it is cut";
}

// A certificate for 127.0.0.1, signed by itself.
struct Certificate {
  Certificate() : key(EVP_EC_gen("P-256"), EVP_PKEY_free), x509(X509_new(), X509_free) {
    X509_set_version(x509.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509.get()), 3600);
    X509_set_pubkey(x509.get(), key.get());
    X509_NAME* name = X509_get_subject_name(x509.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const uint8_t*>("test"), -1, -1, 0);
    X509_set_issuer_name(x509.get(), name);
    for (const auto& [nid, value] :
         {std::pair(NID_subject_alt_name, "IP:127.0.0.1"), std::pair(NID_basic_constraints, "critical,CA:TRUE")}) {
      X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
      X509_add_ext(x509.get(), extension, -1);
      X509_EXTENSION_free(extension);
    }
    X509_sign(x509.get(), key.get(), EVP_sha256());
  }
  void Write(const std::string& path) const {
    FILE* file = std::fopen(path.c_str(), "w");
    PEM_write_X509(file, x509.get());
    std::fclose(file);
  }
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key;
  std::unique_ptr<X509, decltype(&X509_free)> x509;
};

TEST(HttpClientTest, CertificatesAreVerified) {
  const Certificate good, other;
  LocalServer server(std::make_unique<httplib::SSLServer>(good.x509.get(), good.key.get()));
  std::atomic<int> calls = 0;
  server->Get("/v1", [&](const httplib::Request&, httplib::Response& response) {
    ++calls;
    response.set_content("{}", "application/json");
  });
  const std::string folder = ::testing::TempDir() + "http_client_test_" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  good.Write(folder + "/good.pem");
  other.Write(folder + "/other.pem");
  const HttpRequest request{.url = server.Url("/v1", "https")};
  unsetenv("SSL_CERT_FILE");
  EXPECT_THAT(ErrorOf(Send(request)), HasSubstr("certificate"));
  setenv("SSL_CERT_FILE", (folder + "/other.pem").c_str(), 1);
  EXPECT_THAT(ErrorOf(Send(request)), HasSubstr("certificate"));
  EXPECT_EQ(calls, 0) << "nothing is asked before the certificate is good";
  setenv("SSL_CERT_FILE", (folder + "/good.pem").c_str(), 1);
  const auto response = Send(request);
  EXPECT_TRUE(response) << ErrorOf(response);
  EXPECT_EQ(calls, 1);
  unsetenv("SSL_CERT_FILE");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace sluice::io
