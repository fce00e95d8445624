#include "verify/model_signature.h"

#include <gtest/gtest.h>

#include "formats/base64.h"
#include "io/byte_source.h"
#include "io/file_hasher.h"

namespace sluice::verify {
namespace {

std::string Data(const std::string& name) {
  return std::string(SLUICE_SOURCE_DIR) + "/tests/data/model_signing/" + name;
}

std::string Text(const std::string& name) { return *io::ReadWholeFile(Data(name)); }

std::string Replace(std::string text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return at == std::string::npos ? text : text.replace(at, what.size(), by);
}

template <class T>
void ExpectError(const Result<T>& result, ErrorCode code, const std::string& words) {
  ASSERT_FALSE(result) << words;
  EXPECT_EQ(result.error().code, code) << result.error().ToString();
  EXPECT_NE(result.error().ToString().find(words), std::string::npos) << result.error().ToString();
}

FileManifest Hashed(const std::string& folder, uint64_t shard_bytes) {
  FileManifest manifest;
  manifest.ignored = GitPaths();
  const auto files = ListModelFiles(folder, {manifest.ignored});
  HashPlan plan = PlanHashes(*files, shard_bytes);
  const auto hashes = io::HashFiles(plan.pieces, {.num_threads = 2});
  for (size_t i = 0; i < plan.entries.size(); ++i) plan.entries[i].digest = (*hashes)[i].digest;
  manifest.model_name = files->model_name;
  manifest.shard_bytes = shard_bytes;
  manifest.entries = std::move(plan.entries);
  return manifest;
}

// What PyPI's model-signing 1.1.1 signed: tests/data/model_signing/make.py.
TEST(ModelSignatureTest, BundlesOfModelSigning) {
  for (const char* name : {"p256", "p384", "p521", "shards"}) {
    const auto key = PublicKey::Load(Data((name == std::string("shards") ? "p256" : name) + std::string(".pub.pem")));
    ASSERT_TRUE(key);
    const auto bundle = ParseBundle(Text(name + std::string(".sig")), "s");
    ASSERT_TRUE(bundle) << bundle.error().ToString();
    EXPECT_EQ(bundle->key_hint, key->hint());
    const auto manifest = CheckSignature(*bundle, *key, "s");
    ASSERT_TRUE(manifest) << manifest.error().ToString();
    EXPECT_EQ(manifest->model_name, "model");
    EXPECT_EQ(manifest->ignored, GitPaths());
    EXPECT_FALSE(manifest->allow_symlinks);
    EXPECT_EQ(manifest->shard_bytes, name == std::string("shards") ? 7u : 0u);
    const FileManifest here = Hashed(Data("model"), manifest->shard_bytes);
    EXPECT_TRUE(CompareFiles(*manifest, here.entries).same()) << name;
    ASSERT_EQ(manifest->entries.size(), here.entries.size());
    for (size_t i = 0; i < here.entries.size(); ++i) {
      EXPECT_EQ(manifest->entries[i].name, here.entries[i].name) << "the order of the resources";
      EXPECT_EQ(manifest->entries[i].begin, here.entries[i].begin);
    }
    EXPECT_EQ(manifest->root(), here.root());
  }
}

TEST(ModelSignatureTest, WhatWeSignWeRead) {
  const FileManifest manifest = Hashed(Data("model"), 0);
  const auto pair = SigningKey::Load(Data("p384.key.pem"), {});
  const auto text = SignManifest(manifest, *pair);
  ASSERT_TRUE(text);
  const auto bundle = ParseBundle(*text, "s");
  ASSERT_TRUE(bundle) << bundle.error().ToString();
  const auto read = CheckSignature(*bundle, *PublicKey::Load(Data("p384.pub.pem")), "s");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->model_name, manifest.model_name);
  EXPECT_EQ(read->ignored, manifest.ignored);
  EXPECT_TRUE(CompareFiles(*read, manifest.entries).same());
}

TEST(ModelSignatureTest, OtherKindsAreRefusedByName) {
  ExpectError(ParseBundle(Text("certificate.sig"), "s"), ErrorCode::kUnsupported, "certificate: not supported yet");
  const auto key = PublicKey::Load(Data("p256.pub.pem"));
  for (const char* name : {"blake2", "blake3"}) {
    const auto bundle = ParseBundle(Text(name + std::string(".sig")), "s");
    ASSERT_TRUE(bundle);
    ExpectError(CheckSignature(*bundle, *key, "s"), ErrorCode::kUnsupported, name);
  }
  const std::string text = Text("p256.sig");
  ExpectError(ParseBundle(Replace(text, "v0.3+json", "v0.1+json"), "s"), ErrorCode::kUnsupported, "mediaType");
}

TEST(ModelSignatureTest, AnotherKeyAndTampering) {
  const auto key = PublicKey::Load(Data("p256.pub.pem")), other = PublicKey::Load(Data("p384.pub.pem"));
  const SignatureBundle bundle = *ParseBundle(Text("p256.sig"), "s");
  ExpectError(CheckSignature(bundle, *other, "s"), ErrorCode::kCorrupt, "made by another key");

  SignatureBundle changed = bundle;
  changed.key_hint = other->hint();
  ExpectError(CheckSignature(changed, *other, "s"), ErrorCode::kCorrupt, "not this key's of this payload");
  changed.key_hint.clear();  // of before 1.0
  EXPECT_TRUE(CheckSignature(changed, *key, "s"));

  changed = bundle;
  changed.payload = Replace(bundle.payload, "config.json", "confag.json");
  ExpectError(CheckSignature(changed, *key, "s"), ErrorCode::kCorrupt, "payload or the signature was changed");
  const size_t digest = bundle.payload.find("\"digest\": \"") + 11;
  changed = bundle;
  changed.payload[digest] = changed.payload[digest] == '0' ? '1' : '0';
  ExpectError(CheckSignature(changed, *key, "s"), ErrorCode::kCorrupt, "the payload was changed (s: payload: subject");
  changed = bundle;
  changed.signature.back() = static_cast<char>(changed.signature.back() ^ 1);
  ExpectError(CheckSignature(changed, *key, "s"), ErrorCode::kCorrupt, "payload or the signature was changed");
  changed.signature = "none";
  ExpectError(CheckSignature(changed, *key, "s"), ErrorCode::kCorrupt, "no ECDSA signature");
}

TEST(ModelSignatureTest, EveryByteOfABundleMatters) {
  const auto key = PublicKey::Load(Data("p256.pub.pem"));
  const std::string text = Text("p256.sig");
  const FileManifest good = *CheckSignature(*ParseBundle(text, "s"), *key, "s");
  for (size_t at = 0; at < text.size(); ++at) {
    std::string changed = text;
    changed[at] = changed[at] == 'A' ? 'B' : 'A';
    const auto bundle = ParseBundle(changed, "s");
    if (!bundle) continue;
    const auto manifest = CheckSignature(*bundle, *key, "s");
    // What is left are names of fields that need not be there.
    if (manifest) EXPECT_TRUE(CompareFiles(good, manifest->entries).same()) << at;
  }
}

TEST(ModelSignatureTest, MalformedBundles) {
  const std::string text = Text("p256.sig");
  const auto refused = [&](const std::string& what, const std::string& by, const std::string& words) {
    ExpectError(ParseBundle(Replace(text, what, by), "x.sig"), ErrorCode::kCorrupt, words);
  };
  ExpectError(ParseBundle("", "x.sig"), ErrorCode::kCorrupt, "x.sig: a Sigstore bundle: line 1, column 1");
  ExpectError(ParseBundle(text.substr(0, text.size() - 1), "x.sig"), ErrorCode::kCorrupt, "line 1");
  ExpectError(ParseBundle(text + "}", "x.sig"), ErrorCode::kCorrupt, "its end");
  ExpectError(ParseBundle("{}", "x.sig"), ErrorCode::kCorrupt, "mediaType: missing");
  refused("\"publicKey\"", "\"publicCow\"", "verificationMaterial.publicKey: missing");
  refused("\"dsseEnvelope\"", "\"messageSignature\"", "what is signed is a message");
  refused("\"payload\":\"", "\"payload\":\"*", "dsseEnvelope.payload: missing, or no base64");
  refused("\"sig\":\"", "\"sig\":\"*", "dsseEnvelope.signatures.sig: missing, or no base64");
  refused("vnd.in-toto+json", "json", "dsseEnvelope.payloadType: 'application/json'");
  refused("\"signatures\":[", "\"signatures\":[{\"sig\":\"AAAA\"},", "2 of them");
  refused("\"payloadType\"", "\"payload\":\"AAAA\",\"payloadType\"", "'payload' is given twice");
  refused("{\"hint\":\"", "{\"hint\":7,\"x\":\"", "verificationMaterial.publicKey.hint: line 1");
}

TEST(ModelSignatureTest, MalformedPayloads) {
  const std::string payload = ParseBundle(Text("p256.sig"), "s")->payload;
  ASSERT_TRUE(ParsePayload(payload, "p"));
  const auto refused = [&](const std::string& what, const std::string& by, const std::string& words,
                           ErrorCode code = ErrorCode::kCorrupt) {
    ExpectError(ParsePayload(Replace(payload, what, by), "p"), code, words);
  };
  refused("in-toto.io/Statement/v1", "in-toto.io/Statement/v9", "_type");
  refused("signature/v1.0", "signature/v9.0", "predicateType", ErrorCode::kUnsupported);
  refused("signature/v1.0", "Digests/v0.1", "model-signing 0.2", ErrorCode::kUnsupported);
  refused("\"method\": \"files\"", "\"method\": \"tensors\"", "serialization.method", ErrorCode::kUnsupported);
  refused("\"method\": \"files\"", "\"method\": \"shards\"", "shard_size");
  refused("\"hash_type\": \"sha256\"", "\"hash_type\": \"md5\"", "hash_type", ErrorCode::kUnsupported);
  refused("\"allow_symlinks\": false", "\"allow_symlinks\": 0", "allow_symlinks");
  refused("\"allow_symlinks\": false", "\"allow\": false", "allow_symlinks: missing");
  refused("\"algorithm\": \"sha256\"", "\"algorithm\": \"sha1\"", "resources[0]: algorithm 'sha1'");
  refused("\"resources\"", "\"sources\"", "predicate.resources: missing");
  refused("\"serialization\"", "\"cereal\"", "predicate.serialization: missing");
  refused("\"name\": \"config.json\"", "\"name\": \"empty\"", "listed twice");
  refused("\"name\": \"config.json\"", "\"name\": \"../config.json\"", "no path in a model");
  refused("\"name\": \"config.json\"", "\"name\": \"/etc/passwd\"", "no path in a model");
  ExpectError(ParsePayload("[]", "p"), ErrorCode::kCorrupt, "the statement");
  ExpectError(
      ParsePayload(R"({"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"m","digest":{"sha256":""}}],
      "predicateType":"https://model_signing/signature/v1.0","predicate":{"serialization":{"method":"files",
      "hash_type":"sha256","allow_symlinks":false},"resources":[]}})",
                   "p"),
      ErrorCode::kCorrupt, "nothing was signed");
}

TEST(ModelSignatureTest, NamesOfAnyKindComeBack) {
  FileManifest manifest;
  manifest.model_name = "m \"\\\n\xc3\xa9\xf0\x9f\x98\x80";
  for (const char* name : {"a\"b", "c\\d", "e\nf", "\xc3\xa9", "\xf0\x9f\x98\x80/x", "x:1:2"}) {
    manifest.entries.push_back({name, 0, 0, kernels::HashText(name)});
  }
  const auto read = ParsePayload(MakePayload(manifest), "p");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->model_name, manifest.model_name);
  EXPECT_TRUE(CompareFiles(*read, manifest.entries).same());
}

}  // namespace
}  // namespace sluice::verify
