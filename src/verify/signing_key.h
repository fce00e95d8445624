// Keys that sign and check: ECDSA over P-256, P-384 and P-521, with the SHA-2 of their size (SHA-256, -384, -512), by
// libcrypto. Immutable, thread-safe. The text of a private key is wiped when it has been read.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::verify {

// A public key, or the public half of a pair.
class PublicKey {
 public:
  // PEM, "BEGIN PUBLIC KEY". kNotFound, kRead; kCorrupt, naming the file and what it is instead; kUnsupported for other
  // curves and kinds of keys, and for certificates.
  static Result<PublicKey> Load(const std::string& path);

  // SHA-256, in hex, of the PEM text that libcrypto writes of it: the hint by which a bundle names its key.
  const std::string& hint() const { return hint_; }
  const std::string& curve() const { return curve_; }  // "P-256"
  const std::string& pem() const { return pem_; }      // that text, which Load reads
  // Whether `signature` (DER) is one of `message` by this key; kCorrupt where it is no signature at all.
  Result<bool> Verify(std::string_view message, std::string_view signature) const;

 protected:
  struct Impl;
  static Result<PublicKey> Make(std::shared_ptr<const Impl> impl, const std::string& path);
  std::shared_ptr<const Impl> impl_;
  std::string hint_, curve_, pem_;
};

class SigningKey : public PublicKey {
 public:
  // PEM: "EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY". `passphrase` only where the key has one. Reads pipes
  // too. Errors as PublicKey's; kUsage where a passphrase is missing, kCorrupt where it is the wrong one.
  static Result<SigningKey> Load(const std::string& path, const std::optional<std::string>& passphrase);
  // DER. Other bytes each time: ECDSA draws a number. kCorrupt where the key's number is out of its range.
  Result<std::string> Sign(std::string_view message) const;
};

}  // namespace sluice::verify
