// Signatures of models in the format of OpenSSF Model Signing 1.0: a Sigstore bundle (v0.3, JSON) around a DSSE
// envelope around an in-toto statement that lists files and their digests. Key mode: ECDSA keys, no certificates.
// docs/signatures.md is the specification.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "verify/file_manifest.h"
#include "verify/signing_key.h"

namespace sluice::verify {

// The statement of a manifest of whole files, JSON: what is signed.
std::string MakePayload(const FileManifest& manifest);

// Strict about what it reads: kCorrupt names the field that is missing, of another type, given twice or that
// contradicts another (the subject's digest that the resources do not give); fields that the format does not have are
// passed over. kUnsupported for other predicates, serialisations and hashes. `name`: for errors.
Result<FileManifest> ParsePayload(std::string_view payload, const std::string& name);

struct SignatureBundle {
  std::string payload;    // as it was signed
  std::string signature;  // DER
  std::string key_hint;   // hex; empty where the bundle has none
};

// kCorrupt as ParsePayload; kUnsupported for bundles of other versions and for those with a certificate.
Result<SignatureBundle> ParseBundle(std::string_view text, const std::string& name);

// The bundle's text.
Result<std::string> SignManifest(const FileManifest& manifest, const SigningKey& key);

// The manifest that the holder of `key` has signed: the payload is looked at only after its signature was found good.
// kCorrupt where the key is another one, or the payload or the signature was changed.
Result<FileManifest> CheckSignature(const SignatureBundle& bundle, const PublicKey& key, const std::string& name);

}  // namespace sluice::verify
