#include "verify/signing_key.h"

#include <fstream>

#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"
#include "io/byte_source.h"

namespace sluice::verify {
namespace {

using tests::TempDir;
using tests::WriteText;

std::string Data(const std::string& name) {
  return std::string(SLUICE_SOURCE_DIR) + "/tests/data/model_signing/" + name;
}

template <class T>
void ExpectError(const Result<T>& result, ErrorCode code, const std::string& words) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().ToString();
  EXPECT_NE(result.error().ToString().find(words), std::string::npos) << result.error().ToString();
}

TEST(SigningKeyTest, SignsAndChecksOverThreeCurves) {
  const std::pair<const char*, const char*> curves[] = {{"p256", "P-256"}, {"p384", "P-384"}, {"p521", "P-521"}};
  for (const auto& [file, curve] : curves) {
    const auto pair = SigningKey::Load(Data(file + std::string(".key.pem")), {});
    const auto key = PublicKey::Load(Data(file + std::string(".pub.pem")));
    ASSERT_TRUE(pair && key) << file;
    EXPECT_EQ(key->curve(), curve);
    EXPECT_EQ(pair->hint(), key->hint());
    const auto signature = pair->Sign("a message");
    ASSERT_TRUE(signature);
    EXPECT_TRUE(*key->Verify("a message", *signature));
    EXPECT_TRUE(*pair->Verify("a message", *signature));
    EXPECT_FALSE(*key->Verify("a massage", *signature));
    const auto other = PublicKey::Load(Data(file == std::string("p256") ? "p384.pub.pem" : "p256.pub.pem"));
    EXPECT_FALSE(*other->Verify("a message", *signature));
  }
}

TEST(SigningKeyTest, ASignatureThatIsNone) {
  const auto key = PublicKey::Load(Data("p256.pub.pem"));
  ASSERT_TRUE(key);
  for (const std::string& signature : {std::string("nothing"), std::string(), std::string(100, '\x30')}) {
    ExpectError(key->Verify("m", signature), ErrorCode::kCorrupt, "no ECDSA signature");
  }
  const std::string good = *SigningKey::Load(Data("p256.key.pem"), {})->Sign("m");
  ExpectError(key->Verify("m", good + "x"), ErrorCode::kCorrupt, "no ECDSA signature");
}

TEST(SigningKeyTest, Passphrases) {
  ExpectError(SigningKey::Load(Data("encrypted.key.pem"), {}), ErrorCode::kUsage, "--passphrase-env");
  ExpectError(SigningKey::Load(Data("encrypted.key.pem"), "secrets"), ErrorCode::kCorrupt, "does not open the key");
  const auto pair = SigningKey::Load(Data("encrypted.key.pem"), "secret");
  ASSERT_TRUE(pair) << pair.error().ToString();
  EXPECT_EQ(pair->hint(), PublicKey::Load(Data("p256.pub.pem"))->hint());
}

TEST(SigningKeyTest, OtherKeysAreNamed) {
  ExpectError(SigningKey::Load(Data("k256.key.pem"), {}), ErrorCode::kUnsupported, "secp256k1");
  ExpectError(SigningKey::Load(Data("ed25519.key.pem"), {}), ErrorCode::kUnsupported, "ED25519");
  ExpectError(SigningKey::Load(Data("p256.pub.pem"), {}), ErrorCode::kCorrupt, "a public key, where the private");
  ExpectError(PublicKey::Load(Data("p256.key.pem")), ErrorCode::kCorrupt, "openssl pkey -pubout");
  ExpectError(PublicKey::Load(Data("certificate.pem")), ErrorCode::kUnsupported, "openssl x509 -pubkey");
  ExpectError(PublicKey::Load(Data("p256.sig")), ErrorCode::kCorrupt, "no PEM text");
  ExpectError(PublicKey::Load(Data("absent.pem")), ErrorCode::kNotFound, "absent.pem");
}

TEST(SigningKeyTest, DamagedPemIsAnErrorOfTheFile) {
  TempDir dir;
  for (const char* name : {"p256.key.pem", "p256.pub.pem", "encrypted.key.pem"}) {
    const std::string whole = *io::ReadWholeFile(Data(name));
    for (size_t at = 0; at < whole.size(); at += 11) {
      std::string text = whole;
      text[at] = static_cast<char>(text[at] ^ 1);
      WriteText(dir / "bad.pem", text);
      // Whatever was hit, these two end with a key or with an error.
      if (const auto key = PublicKey::Load(dir / "bad.pem")) EXPECT_EQ(key->curve(), "P-256");
      if (const auto pair = SigningKey::Load(dir / "bad.pem", "secret")) EXPECT_EQ(pair->hint().size(), 64u);
    }
    // Any of it that lacks some of its last line.
    for (size_t size = 0; size + 2 < whole.size(); size += 11) {
      WriteText(dir / "bad.pem", whole.substr(0, size));
      EXPECT_FALSE(PublicKey::Load(dir / "bad.pem")) << size;
      EXPECT_FALSE(SigningKey::Load(dir / "bad.pem", "secret")) << size;
    }
  }
}

}  // namespace
}  // namespace sluice::verify
