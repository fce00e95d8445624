#include "verify/signing_key.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/sha256.h"

namespace sluice::verify {
namespace {

constexpr size_t kMaxPemBytes = 64 << 10;

template <auto kFree>
struct Freer {
  template <class T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using KeyPointer = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using BioPointer = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using DigestPointer = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;

// Bytes that do not stay behind in freed memory.
class Secret {
 public:
  Secret() { text_.reserve(kMaxPemBytes + 1); }
  ~Secret() { OPENSSL_cleanse(text_.data(), text_.capacity()); }
  Secret(Secret&&) = default;
  std::string& text() { return text_; }

 private:
  std::string text_;
};

// Unbuffered, so that nothing of a private key stays in a buffer of stdio.
Result<void> ReadPem(const std::string& path, Secret* secret) {
  const std::unique_ptr<std::FILE, Freer<std::fclose>> file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) {
    return Fail(errno == ENOENT || errno == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kRead,
                fmt::format("{}: {}", path, std::strerror(errno)));
  }
  std::setvbuf(file.get(), nullptr, _IONBF, 0);
  std::string& text = secret->text();
  text.resize(kMaxPemBytes + 1);
  const size_t size = std::fread(text.data(), 1, text.size(), file.get());
  if (std::ferror(file.get()) != 0) return Fail(ErrorCode::kRead, fmt::format("{}: {}", path, std::strerror(errno)));
  if (size > kMaxPemBytes) return Fail(ErrorCode::kCorrupt, path + ": too long for a key");
  text.resize(size);
  return {};
}

// "EC PRIVATE KEY", of the first block that is no parameters; empty where there is none.
std::string PemLabel(std::string_view text) {
  constexpr std::string_view kBegin = "-----BEGIN ", kEnd = "-----";
  for (size_t at = text.find(kBegin); at != std::string_view::npos; at = text.find(kBegin, at + 1)) {
    const std::string_view rest = text.substr(at + kBegin.size());
    const size_t end = rest.find(kEnd);
    if (end == std::string_view::npos || end > 64) continue;
    const std::string_view label = rest.substr(0, end);
    if (label == "EC PARAMETERS") continue;
    if (std::ranges::all_of(label, [](char c) { return c == ' ' || (c >= 'A' && c <= 'Z'); })) {
      return std::string(label);
    }
  }
  return "";
}

Error NoKey(const std::string& path, const std::string& label, bool want_private) {
  const char* want = want_private ? "a private key" : "a public key";
  if (label.empty()) {
    return {ErrorCode::kCorrupt, fmt::format("{}: no PEM text, so it is not {} (docs/signatures.md)", path, want), {}};
  }
  if (label == "CERTIFICATE") {
    return {ErrorCode::kUnsupported,
            fmt::format("{}: a certificate: not supported yet; its key alone is `openssl x509 -pubkey -noout -in {}`",
                        path, path),
            {}};
  }
  if (!want_private && label.ends_with("PRIVATE KEY")) {
    return {ErrorCode::kCorrupt,
            fmt::format("{}: a private key, where the public one is wanted: `openssl pkey -pubout -in {}`", path, path),
            {}};
  }
  if (want_private && label.ends_with("PUBLIC KEY")) {
    return {ErrorCode::kCorrupt, fmt::format("{}: a public key, where the private one is wanted", path), {}};
  }
  return {ErrorCode::kCorrupt,
          fmt::format("{}: the PEM block '{}' cannot be read as {}: it is damaged, or of another "
                      "kind",
                      path, label, want),
          {}};
}

struct Curve {
  const char* group;  // as libcrypto names it
  const char* name;
  const EVP_MD* (*digest)();
};
constexpr Curve kCurves[] = {
    {"prime256v1", "P-256", EVP_sha256}, {"secp384r1", "P-384", EVP_sha384}, {"secp521r1", "P-521", EVP_sha512}};

struct PassphraseCall {
  const std::optional<std::string>* passphrase;
  bool asked = false;
};

int GivePassphrase(char* buffer, int size, int /*writing*/, void* user) {
  auto* call = static_cast<PassphraseCall*>(user);
  call->asked = true;
  if (!*call->passphrase) return -1;
  const std::string& text = **call->passphrase;
  if (text.size() > static_cast<size_t>(size)) return -1;
  std::copy(text.begin(), text.end(), buffer);
  return static_cast<int>(text.size());
}

}  // namespace

struct PublicKey::Impl {
  KeyPointer key;
  const Curve* curve = nullptr;
};

Result<PublicKey> PublicKey::Make(std::shared_ptr<const Impl> impl, const std::string& path) {
  if (EVP_PKEY_is_a(impl->key.get(), "EC") != 1) {
    const char* kind = EVP_PKEY_get0_type_name(impl->key.get());
    return Fail(ErrorCode::kUnsupported,
                fmt::format("{}: a key of {}: model signing has ECDSA over P-256, P-384 and P-521", path,
                            kind == nullptr ? "an unknown kind" : kind));
  }
  char group[64] = "";
  size_t length = 0;
  EVP_PKEY_get_group_name(impl->key.get(), group, sizeof(group), &length);
  const auto* curve = std::ranges::find_if(kCurves, [&](const Curve& c) { return std::strcmp(c.group, group) == 0; });
  if (curve == std::end(kCurves)) {
    return Fail(ErrorCode::kUnsupported, fmt::format("{}: a key over {}: model signing has P-256, P-384 and P-521",
                                                     path, *group == '\0' ? "a curve without a name" : group));
  }
  // Others hash the uncompressed point, however the file has it.
  EVP_PKEY* key = impl->key.get();
  EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "uncompressed");
  const BioPointer out(BIO_new(BIO_s_mem()));
  if (out == nullptr || PEM_write_bio_PUBKEY(out.get(), key) != 1) {
    ERR_clear_error();
    return Fail(ErrorCode::kCorrupt, path + ": a key without a public half");
  }
  char* pem = nullptr;
  const long size = BIO_get_mem_data(out.get(), &pem);
  PublicKey made;
  made.impl_ = std::make_shared<Impl>(Impl{KeyPointer((EVP_PKEY_up_ref(key), key)), curve});
  made.curve_ = curve->name;
  made.pem_ = std::string(pem, static_cast<size_t>(size));
  made.hint_ = kernels::ToHex(kernels::HashText(made.pem_));
  return made;
}

Result<PublicKey> PublicKey::Load(const std::string& path) {
  Secret pem;
  SLUICE_TRY(ReadPem(path, &pem));
  const std::string label = PemLabel(pem.text());
  if (label != "PUBLIC KEY") return Fail(NoKey(path, label, /*want_private=*/false));
  const BioPointer in(BIO_new_mem_buf(pem.text().data(), static_cast<int>(pem.text().size())));
  SLUICE_CHECK(in != nullptr);
  KeyPointer key(PEM_read_bio_PUBKEY(in.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (key == nullptr) return Fail(NoKey(path, label, /*want_private=*/false));
  return Make(std::make_shared<Impl>(Impl{std::move(key), nullptr}), path);
}

Result<bool> PublicKey::Verify(std::string_view message, std::string_view signature) const {
  const auto* bytes = reinterpret_cast<const unsigned char*>(signature.data());
  const auto* at = bytes;
  ECDSA_SIG* parsed = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(signature.size()));
  const bool whole = parsed != nullptr && at == bytes + signature.size();
  ECDSA_SIG_free(parsed);
  ERR_clear_error();
  if (!whole) return Fail(ErrorCode::kCorrupt, "the signature's bytes are no ECDSA signature (DER)");
  const DigestPointer context(EVP_MD_CTX_new());
  SLUICE_CHECK(context != nullptr);
  SLUICE_CHECK(EVP_DigestVerifyInit(context.get(), nullptr, impl_->curve->digest(), nullptr, impl_->key.get()) == 1);
  const int verified = EVP_DigestVerify(context.get(), bytes, signature.size(),
                                        reinterpret_cast<const unsigned char*>(message.data()), message.size());
  ERR_clear_error();
  return verified == 1;
}

Result<SigningKey> SigningKey::Load(const std::string& path, const std::optional<std::string>& passphrase) {
  Secret pem;
  SLUICE_TRY(ReadPem(path, &pem));
  const std::string label = PemLabel(pem.text());
  if (!label.ends_with("PRIVATE KEY")) return Fail(NoKey(path, label, /*want_private=*/true));
  const BioPointer in(BIO_new_mem_buf(pem.text().data(), static_cast<int>(pem.text().size())));
  SLUICE_CHECK(in != nullptr);
  PassphraseCall call{&passphrase};
  KeyPointer key(PEM_read_bio_PrivateKey(in.get(), nullptr, GivePassphrase, &call));
  ERR_clear_error();
  if (key == nullptr && call.asked) {
    if (!passphrase) {
      return Fail(ErrorCode::kUsage,
                  path +
                      ": the key is encrypted: name the environment variable that holds its passphrase by "
                      "--passphrase-env NAME");
    }
    return Fail(ErrorCode::kCorrupt, path + ": the passphrase does not open the key, or the key is damaged");
  }
  if (key == nullptr) return Fail(NoKey(path, label, /*want_private=*/true));
  SLUICE_ASSIGN(PublicKey made, Make(std::make_shared<Impl>(Impl{std::move(key), nullptr}), path));
  SigningKey pair;
  static_cast<PublicKey&>(pair) = std::move(made);
  return pair;
}

Result<std::string> SigningKey::Sign(std::string_view message) const {
  const DigestPointer context(EVP_MD_CTX_new());
  SLUICE_CHECK(context != nullptr);
  const auto* bytes = reinterpret_cast<const unsigned char*>(message.data());
  size_t size = 0;
  std::string signature;
  bool good = EVP_DigestSignInit(context.get(), nullptr, impl_->curve->digest(), nullptr, impl_->key.get()) == 1 &&
              EVP_DigestSign(context.get(), nullptr, &size, bytes, message.size()) == 1;
  if (good) {
    signature.resize(size);
    good = EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes,
                          message.size()) == 1;
  }
  ERR_clear_error();
  if (!good) return Fail(ErrorCode::kCorrupt, "the private key cannot sign: it is damaged");
  signature.resize(size);
  return signature;
}

}  // namespace sluice::verify
