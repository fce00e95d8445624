// What a verification was asked for, and what it found: what is printed, kept as evidence, and done again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "checkpoint/digest_tree.h"
#include "cli/sample_pass.h"
#include "cli/watched_files.h"
#include "verify/behaviour/challenge_set.h"
#include "verify/evidence.h"
#include "verify/fingerprint.h"
#include "verify/verdict.h"
#include "verify/verification.h"

namespace sluice::cli {

// A model as it is opened.
struct VerifySide {
  std::string ref;
  std::optional<uint64_t> seed = {};
  std::optional<std::string> arithmetic = {};
  std::string lora_merge_dtype = {};  // only ever a statement's
  std::string note = {};              // how it is computed, for people
};

struct SignatureRequest {
  std::string signature, key;
  std::vector<std::string> ignored;  // paths of the model that are not looked at, beside those that the signature names
  bool allow_symlinks = false;
  std::string manifest;  // of `digest -o`: compared in the same read; empty: none
};

// Where a side is a model behind a server.
struct ApiRequest {
  uint64_t top = 0;              // tokens to a list; 0: the longest of 20, 5 and 1 that is given
  uint64_t positions = 0;        // scored of each challenge, the last ones; 0: all
  uint64_t ids = 0;              // of a coarsened distance; 0: bounds of total variation
  double timeout_seconds = 120;  // without a byte
  std::string tokenizer;         // whose tokens the servers have; empty: the local model's
  std::string record, replay;    // prefixes of files of answers; empty: none
};

struct BehaviourRequest {
  double gamma = 0.025, alpha = 0.01;
  uint64_t challenges = 1024, challenge_tokens = 64;
  std::string prompts;  // a file, one a line; empty: challenges are drawn
  std::string key;      // 32 or 64 hexadecimal digits; empty: drawn
  verify::behaviour::Share share;
  std::string commitment;  // written before the run; empty: nowhere
  ApiRequest api;
};

struct VerifyRequest {
  enum class Form {
    kModels,       // two models
    kFingerprint,  // a model against the fingerprint of another
    kStatement,    // a merged folder against its own statement
    kSignature,    // a model's files against a signature of them
    kAudit,        // a merged folder against parts of it that are made again
    kBehaviour,    // what two models say to challenges
  };
  Form form = Form::kModels;
  std::vector<VerifySide> sides;                    // two of kModels and kBehaviour, else one
  verify::Level level = verify::Level::kAuto;       // kModels
  double atol = 0, rtol = 0;                        // kModels
  bool first_difference = false;                    // kModels
  SampleOptions sample;                             // kModels
  std::string against;                              // kFingerprint
  SignatureRequest signature;                       // kSignature
  std::optional<double> audit_sample, audit_facts;  // kAudit: shares
  std::optional<uint64_t> audit_nonce;              // kAudit
  BehaviourRequest behaviour;                       // kBehaviour

  bool has_two_models() const { return form == Form::kModels || form == Form::kBehaviour; }
  // What evidence holds beyond the answer is kept: digests and blocks' prints.
  bool for_evidence = false;
};

// A model that was looked at; digest and fingerprint as far as it was read.
struct VerifiedSide {
  std::string name;  // "a", "b" or "model"
  std::shared_ptr<const checkpoint::Checkpoint> model =
      {};  // null where a fingerprint stands for it, or it is no model
  std::optional<WatchedFiles> watched = {};
  std::optional<checkpoint::ModelDigest> digest = {};
  std::optional<verify::Fingerprint> fingerprint = {};
  std::vector<verify::EvidenceInput> files = {};  // of what was read as files alone
};

struct Verified {
  nlohmann::ordered_json json;
  std::string text;
  int status = 0;
  std::vector<VerifiedSide> sides = {};
  std::optional<verify::Verification> comparison = {};  // of two models
  uint64_t audit_nonce = 0;                             // of an audit: what it drew by
  std::map<std::string, std::string> papers = {};       // for evidence: files that the answer hangs on, by name
};

}  // namespace sluice::cli
