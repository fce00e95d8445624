#include "kernels/sha1.h"

#include <openssl/evp.h>

#include "base/check.h"

namespace sluice::kernels {

struct Sha1::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha1::Sha1() : context_(std::make_unique<Context>()) {
  SLUICE_CHECK(context_->evp != nullptr && EVP_DigestInit_ex(context_->evp, EVP_sha1(), nullptr) == 1);
}
Sha1::~Sha1() = default;

void Sha1::Update(std::span<const uint8_t> bytes) {
  if (!bytes.empty()) SLUICE_CHECK(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}

Hash160 Sha1::Finish() {
  Hash160 hash;
  SLUICE_CHECK(EVP_DigestFinal_ex(context_->evp, hash.data(), nullptr) == 1);
  return hash;
}

std::string GitBlobHeader(uint64_t size_bytes) {
  std::string header = "blob " + std::to_string(size_bytes);
  header.push_back('\0');
  return header;
}

std::string ToHex(const Hash160& hash) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : hash) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

}  // namespace sluice::kernels
