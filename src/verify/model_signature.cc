#include "verify/model_signature.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "formats/base64.h"
#include "formats/json_reader.h"
#include "formats/recognise.h"
#include "kernels/sha256.h"

namespace sluice::verify {
namespace {

using formats::JsonReader;
using formats::JsonType;
using formats::Printable;
using nlohmann::ordered_json;

constexpr std::string_view kMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr std::string_view kPayloadType = "application/vnd.in-toto+json";
constexpr std::string_view kStatementType = "https://in-toto.io/Statement/v1";
constexpr std::string_view kPredicateType = "https://model_signing/signature/v1.0";
constexpr std::string_view kPredicateOfV02 = "https://model_signing/Digests/v0.1";

// "Pre-authentication encoding": what a DSSE signature is over.
std::string Pae(std::string_view payload) {
  return fmt::format("DSSEv1 {} {} {} {}", kPayloadType.size(), kPayloadType, payload.size(), payload);
}

// Reads JSON field by field. Errors name the text and where in it.
class FieldReader {
 public:
  FieldReader(std::string_view text, std::string name) : text_(text), name_(std::move(name)), json_(text) {}

  // Calls `field` for each key, which returns false for one that it does not know: that is passed over.
  using Field = std::function<Result<bool>(const std::string& key)>;
  Result<void> Object(const std::string& what, const Field& field) {
    if (!json_.BeginObject()) return Broken(what);
    std::set<std::string> seen;
    std::string_view view;
    while (json_.NextKey(&view)) {
      const std::string key(view);
      if (!seen.insert(key).second) return Bad(what, fmt::format("'{}' is given twice", Printable(key)));
      SLUICE_ASSIGN(const bool known, field(key));
      if (!known) json_.Skip();
    }
    return json_.ok() ? Result<void>() : Broken(what);
  }

  Result<void> Array(const std::string& what, const std::function<Result<void>()>& element) {
    if (!json_.BeginArray()) return Broken(what);
    while (json_.NextElement()) SLUICE_TRY(element());
    return json_.ok() ? Result<void>() : Broken(what);
  }

  Result<bool> String(const std::string& what, std::string* value) {
    std::string_view view;
    if (!json_.String(&view)) return Broken(what);
    *value = view;
    return true;
  }

  Result<bool> Strings(const std::string& what, std::vector<std::string>* values) {
    SLUICE_TRY(Array(what, [&]() -> Result<void> {
      SLUICE_TRY(String(what, &values->emplace_back()));
      return {};
    }));
    return true;
  }

  // protobuf writes numbers of its JSON objects as 1000000000.0: a fraction of zeros is an integer.
  Result<bool> Size(const std::string& what, uint64_t* value) {
    formats::JsonNumber number;
    if (!json_.Number(&number)) return Broken(what);
    if (number.text.ends_with(".0")) {
      number.text.remove_suffix(2);
      number.is_integer = true;
    }
    const std::optional<uint64_t> size = number.AsUint64();
    if (!size || *size == 0) return Bad(what, "no number of bytes");
    *value = *size;
    return true;
  }

  Result<bool> Bool(const std::string& what, bool* value) {
    const JsonType type = json_.Peek();
    if (type != JsonType::kTrue && type != JsonType::kFalse) {
      return json_.ok() ? Bad(what, "neither true nor false") : Broken(what);
    }
    *value = type == JsonType::kTrue;
    json_.Literal();
    return true;
  }

  Result<void> End() { return json_.End() ? Result<void>() : Broken("its end"); }

  tl::unexpected<Error> Bad(const std::string& what, const std::string& why) const {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: {}: {}", name_, what, why));
  }
  tl::unexpected<Error> Broken(const std::string& what) const {
    const auto place = formats::LineColumnAt(text_, json_.offset());
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{}: {}: line {}, column {}: {}", name_, what, place.line, place.column, json_.message()));
  }

 private:
  std::string_view text_;
  std::string name_;
  JsonReader json_;
};

// A statement's fields as they stand, in whatever order.
struct RawPayload {
  struct Resource {
    std::string name, algorithm, digest;
  };
  std::string type, predicate_type, model_name, digest;
  uint64_t num_subjects = 0;
  bool has_predicate = false, has_serialization = false, has_resources = false;
  std::string method, hash_type;
  std::optional<bool> allow_symlinks;
  uint64_t shard_size = 0;
  std::vector<std::string> ignored;
  std::vector<Resource> resources;
};

Result<void> ReadSerialization(FieldReader& json, RawPayload* raw) {
  const std::string what = "predicate.serialization";
  return json.Object(what, [&](const std::string& key) -> Result<bool> {
    if (key == "method") return json.String(what + ".method", &raw->method);
    if (key == "hash_type") return json.String(what + ".hash_type", &raw->hash_type);
    if (key == "allow_symlinks") return json.Bool(what + ".allow_symlinks", &raw->allow_symlinks.emplace());
    if (key == "shard_size") return json.Size(what + ".shard_size", &raw->shard_size);
    if (key == "ignore_paths") return json.Strings(what + ".ignore_paths", &raw->ignored);
    return false;
  });
}

Result<void> ReadResources(FieldReader& json, RawPayload* raw) {
  return json.Array("predicate.resources", [&]() -> Result<void> {
    const std::string what = fmt::format("predicate.resources[{}]", raw->resources.size());
    RawPayload::Resource& resource = raw->resources.emplace_back();
    return json.Object(what, [&](const std::string& key) -> Result<bool> {
      if (key == "name") return json.String(what + ".name", &resource.name);
      if (key == "algorithm") return json.String(what + ".algorithm", &resource.algorithm);
      if (key == "digest") return json.String(what + ".digest", &resource.digest);
      return false;
    });
  });
}

Result<void> ReadSubject(FieldReader& json, RawPayload* raw) {
  return json.Array("subject", [&]() -> Result<void> {
    ++raw->num_subjects;
    return json.Object("subject", [&](const std::string& key) -> Result<bool> {
      if (key == "name") return json.String("subject.name", &raw->model_name);
      if (key != "digest") return false;
      SLUICE_TRY(json.Object("subject.digest", [&](const std::string& algorithm) -> Result<bool> {
        if (algorithm != "sha256") return false;
        return json.String("subject.digest.sha256", &raw->digest);
      }));
      return true;
    });
  });
}

Result<void> ReadPayload(FieldReader& json, RawPayload* raw) {
  SLUICE_TRY(json.Object("the statement", [&](const std::string& key) -> Result<bool> {
    if (key == "_type") return json.String(key, &raw->type);
    if (key == "predicateType") return json.String(key, &raw->predicate_type);
    if (key == "subject") {
      SLUICE_TRY(ReadSubject(json, raw));
      return true;
    }
    if (key != "predicate") return false;
    raw->has_predicate = true;
    SLUICE_TRY(json.Object("predicate", [&](const std::string& field) -> Result<bool> {
      if (field == "serialization") {
        raw->has_serialization = true;
        SLUICE_TRY(ReadSerialization(json, raw));
        return true;
      }
      if (field != "resources") return false;
      raw->has_resources = true;
      SLUICE_TRY(ReadResources(json, raw));
      return true;
    }));
    return true;
  }));
  return json.End();
}

// "path:begin:end", as shards are named.
bool ParseShardName(const std::string& text, ManifestEntry* entry) {
  const size_t second = text.rfind(':');
  const size_t first = second == std::string::npos || second == 0 ? std::string::npos : text.rfind(':', second - 1);
  if (first == std::string::npos) return false;
  const auto number = [](std::string_view digits, uint64_t* value) {
    const bool plain = !digits.empty() && digits.size() <= 19 && (digits == "0" || digits[0] != '0') &&
                       std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; });
    *value = 0;
    for (const char c : digits) *value = plain ? *value * 10 + static_cast<uint64_t>(c - '0') : 0;
    return plain;
  };
  const std::string_view view = text;
  entry->name = text.substr(0, first);
  return number(view.substr(first + 1, second - first - 1), &entry->begin) &&
         number(view.substr(second + 1), &entry->end) && entry->begin < entry->end;
}

Result<void> CheckTypes(const FieldReader& json, const RawPayload& raw, const std::string& name) {
  if (raw.type != kStatementType) {
    return json.Bad("_type", fmt::format("'{}', where {} is wanted", Printable(raw.type), kStatementType));
  }
  if (raw.predicate_type == kPredicateOfV02) {
    return Fail(ErrorCode::kUnsupported, name +
                                             ": a signature of model-signing 0.2, of before the format was settled: "
                                             "not supported yet; sign the model again");
  }
  if (raw.predicate_type != kPredicateType) {
    return Fail(ErrorCode::kUnsupported, fmt::format("{}: predicateType: '{}' is no signature of a model; that is {}",
                                                     name, Printable(raw.predicate_type), kPredicateType));
  }
  if (raw.num_subjects != 1) return json.Bad("subject", fmt::format("{} of them, not one", raw.num_subjects));
  if (!raw.has_predicate) return json.Bad("predicate", "missing");
  if (!raw.has_serialization) return json.Bad("predicate.serialization", "missing");
  if (!raw.has_resources) return json.Bad("predicate.resources", "missing");
  if (raw.method != "files" && raw.method != "shards") {
    return Fail(ErrorCode::kUnsupported, fmt::format("{}: predicate.serialization.method: '{}' is not supported yet; "
                                                     "files and shards are",
                                                     name, Printable(raw.method)));
  }
  if (raw.hash_type != "sha256") {
    return Fail(ErrorCode::kUnsupported, fmt::format("{}: predicate.serialization.hash_type: '{}' is not supported "
                                                     "yet; sha256 is",
                                                     name, Printable(raw.hash_type)));
  }
  if (!raw.allow_symlinks) return json.Bad("predicate.serialization.allow_symlinks", "missing");
  if ((raw.method == "shards") != (raw.shard_size > 0)) {
    return json.Bad("predicate.serialization.shard_size", "goes with the method shards, and only with it");
  }
  if (raw.resources.empty()) return json.Bad("predicate.resources", "no file is listed: nothing was signed");
  return {};
}

}  // namespace

std::string MakePayload(const FileManifest& manifest) {
  ordered_json payload;
  payload["_type"] = kStatementType;
  ordered_json subject;
  subject["name"] = manifest.model_name;
  subject["digest"]["sha256"] = kernels::ToHex(manifest.root());
  payload["subject"] = ordered_json::array({std::move(subject)});
  payload["predicateType"] = kPredicateType;
  ordered_json resources = ordered_json::array();
  for (const ManifestEntry& entry : manifest.entries) {
    resources.push_back({{"name", entry.name}, {"algorithm", "sha256"}, {"digest", kernels::ToHex(entry.digest)}});
  }
  ordered_json& predicate = payload["predicate"];
  predicate["serialization"] = {{"method", "files"},
                                {"hash_type", "sha256"},
                                {"allow_symlinks", manifest.allow_symlinks},
                                {"ignore_paths", manifest.ignored}};
  predicate["resources"] = std::move(resources);
  return payload.dump(2, ' ', /*ensure_ascii=*/true, ordered_json::error_handler_t::replace);
}

Result<FileManifest> ParsePayload(std::string_view payload, const std::string& name) {
  RawPayload raw;
  FieldReader json(payload, name);
  SLUICE_TRY(ReadPayload(json, &raw));
  SLUICE_TRY(CheckTypes(json, raw, name));
  FileManifest manifest;
  manifest.model_name = raw.model_name;
  manifest.shard_bytes = raw.shard_size;
  manifest.allow_symlinks = *raw.allow_symlinks;
  manifest.ignored = raw.ignored;
  std::erase_if(manifest.ignored, [](const std::string& path) { return !IsManifestName(path); });  // lie elsewhere
  std::ranges::sort(manifest.ignored);
  const std::string algorithm = raw.shard_size == 0 ? "sha256" : fmt::format("sha256-sharded-{}", raw.shard_size);
  std::set<std::string> seen;
  for (size_t i = 0; i < raw.resources.size(); ++i) {
    const RawPayload::Resource& resource = raw.resources[i];
    const std::string what = fmt::format("predicate.resources[{}]", i);
    ManifestEntry entry;
    entry.name = resource.name;
    if (raw.shard_size > 0 && !ParseShardName(resource.name, &entry)) {
      return json.Bad(what, fmt::format("'{}' names no shard: path:begin:end", Printable(resource.name)));
    }
    if (!IsManifestName(entry.name)) {
      return json.Bad(what, fmt::format("'{}' is no path in a model", Printable(resource.name)));
    }
    if (!seen.insert(resource.name).second) {
      return json.Bad(what, fmt::format("'{}' is listed twice", Printable(resource.name)));
    }
    if (resource.algorithm != algorithm) {
      return json.Bad(what, fmt::format("algorithm '{}', where the serialization has {}", Printable(resource.algorithm),
                                        algorithm));
    }
    if (!kernels::FromHex(resource.digest, &entry.digest)) {
      return json.Bad(what, fmt::format("digest '{}' is no SHA-256", Printable(resource.digest)));
    }
    manifest.entries.push_back(std::move(entry));
  }
  kernels::Hash256 stated;
  if (!kernels::FromHex(raw.digest, &stated)) {
    return json.Bad("subject.digest.sha256", fmt::format("'{}' is no SHA-256", Printable(raw.digest)));
  }
  if (manifest.root() != stated) {
    return json.Bad("subject.digest.sha256", "the resources give another: one of the two was changed");
  }
  return manifest;
}

Result<SignatureBundle> ParseBundle(std::string_view text, const std::string& name) {
  FieldReader json(text, name);
  SignatureBundle bundle;
  std::string media_type, payload, payload_type;
  std::vector<std::string> signatures;
  bool has_material = false, has_key = false, has_certificate = false, has_envelope = false, has_message = false;
  const auto read_material = [&](const std::string& key) -> Result<bool> {
    if (key == "certificate" || key == "x509CertificateChain") has_certificate = true;
    if (key != "publicKey") return false;
    has_key = true;
    SLUICE_TRY(json.Object("verificationMaterial.publicKey", [&](const std::string& field) -> Result<bool> {
      if (field != "hint") return false;
      return json.String("verificationMaterial.publicKey.hint", &bundle.key_hint);
    }));
    return true;
  };
  const auto read_signature = [&]() -> Result<void> {
    std::string& signature = signatures.emplace_back();
    return json.Object("dsseEnvelope.signatures", [&](const std::string& key) -> Result<bool> {
      if (key != "sig") return false;
      return json.String("dsseEnvelope.signatures.sig", &signature);
    });
  };
  const auto read_envelope = [&](const std::string& key) -> Result<bool> {
    if (key == "payload") return json.String("dsseEnvelope.payload", &payload);
    if (key == "payloadType") return json.String("dsseEnvelope.payloadType", &payload_type);
    if (key != "signatures") return false;
    SLUICE_TRY(json.Array("dsseEnvelope.signatures", read_signature));
    return true;
  };
  SLUICE_TRY(json.Object("a Sigstore bundle", [&](const std::string& key) -> Result<bool> {
    if (key == "mediaType") return json.String(key, &media_type);
    if (key == "messageSignature") has_message = true;
    if (key == "verificationMaterial") {
      has_material = true;
      SLUICE_TRY(json.Object(key, read_material));
      return true;
    }
    if (key != "dsseEnvelope") return false;
    has_envelope = true;
    SLUICE_TRY(json.Object(key, read_envelope));
    return true;
  }));
  SLUICE_TRY(json.End());

  if (media_type.empty()) return json.Bad("mediaType", "missing: this is no Sigstore bundle");
  if (media_type != kMediaType) {
    return Fail(ErrorCode::kUnsupported, fmt::format("{}: mediaType: '{}' is not supported yet; {} is", name,
                                                     Printable(media_type), kMediaType));
  }
  if (has_certificate) {
    return Fail(ErrorCode::kUnsupported,
                name +
                    ": signed with a certificate: not supported yet; signatures by a key are. `model_signing verify` "
                    "checks it");
  }
  if (!has_material || !has_key) return json.Bad("verificationMaterial.publicKey", "missing");
  if (!has_envelope) {
    return json.Bad("dsseEnvelope", has_message ? "missing: what is signed is a message, not a model" : "missing");
  }
  if (payload_type != kPayloadType) {
    return json.Bad("dsseEnvelope.payloadType",
                    fmt::format("'{}', where {} is wanted", Printable(payload_type), kPayloadType));
  }
  if (signatures.size() != 1) {
    return json.Bad("dsseEnvelope.signatures", fmt::format("{} of them, where a bundle has one", signatures.size()));
  }
  auto decoded = formats::DecodeBase64(payload);
  if (!decoded || decoded->empty()) return json.Bad("dsseEnvelope.payload", "missing, or no base64");
  bundle.payload = std::move(*decoded);
  decoded = formats::DecodeBase64(signatures.front());
  if (!decoded || decoded->empty()) return json.Bad("dsseEnvelope.signatures.sig", "missing, or no base64");
  bundle.signature = std::move(*decoded);
  return bundle;
}

Result<std::string> SignManifest(const FileManifest& manifest, const SigningKey& key) {
  const std::string payload = MakePayload(manifest);
  SLUICE_ASSIGN(const std::string signature, key.Sign(Pae(payload)));
  ordered_json bundle;
  bundle["mediaType"] = kMediaType;
  bundle["verificationMaterial"]["publicKey"]["hint"] = key.hint();
  bundle["verificationMaterial"]["tlogEntries"] = ordered_json::array();
  ordered_json& envelope = bundle["dsseEnvelope"];
  envelope["payload"] = formats::EncodeBase64(payload);
  envelope["payloadType"] = kPayloadType;
  ordered_json signed_by = {{"sig", formats::EncodeBase64(signature)}, {"keyid", ""}};
  envelope["signatures"] = ordered_json::array({std::move(signed_by)});
  return bundle.dump();
}

Result<FileManifest> CheckSignature(const SignatureBundle& bundle, const PublicKey& key, const std::string& name) {
  if (!bundle.key_hint.empty() && bundle.key_hint != key.hint()) {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: made by another key: its hint is {}, the key's is {}", name,
                                                 Printable(bundle.key_hint), key.hint()));
  }
  const std::string payload_name = name + ": payload";
  const Result<bool> verified = key.Verify(Pae(bundle.payload), bundle.signature);
  if (!verified) return Fail(ErrorCode::kCorrupt, fmt::format("{}: {}", name, verified.error().ToString()));
  if (!*verified) {
    // What cannot be believed may still tell where it was touched.
    const auto payload = ParsePayload(bundle.payload, payload_name);
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{}: the signature is not this key's of this payload: {}", name,
                            payload ? "the payload or the signature was changed, or it is another key's"
                                    : "the payload was changed (" + payload.error().ToString() + ")"));
  }
  return ParsePayload(bundle.payload, payload_name);
}

}  // namespace sluice::verify
