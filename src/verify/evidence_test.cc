#include "verify/evidence.h"

#include <algorithm>
#include <filesystem>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"
#include "io/testing/disk_faults.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

Evidence Sample() {
  Evidence evidence;
  evidence.form = "models";
  evidence.options = {{"level", "tensors"}, {"atol", 0.25}};
  evidence.plan = {{"nonce", "00ff"}};
  EvidenceSide a{.name = "a", .ref = "models/a", .kind = "safetensors"};
  a.files = {{"model.safetensors", uint64_t{1} << 40}, {"config.json", 7, kernels::HashText("{\"a\":1}")}};
  a.config_hash = kernels::HashText("config");
  a.tokenizer_hash = kernels::HashText("tokenizer");
  a.headers_hash = kernels::HashText("headers");
  a.weights_root = kernels::HashText("weights");
  a.root = kernels::HashText("root");
  EvidenceSide b{.name = "b", .ref = "recipe.yml", .kind = "recipe", .seed = uint64_t{7}, .arithmetic = "mergekit"};
  b.lora_merge_dtype = "bfloat16";
  evidence.sides = {a, b};
  evidence.result = "{\n  \"schema\": \"sluice/verify/v1\",\n  \"verdict\": \"IDENTICAL\"\n}\n";
  evidence.papers = {{"a.manifest.json", "{}\n"}, {"report.html", "<p>\xc3\xa9</p>"}};
  return evidence;
}

// Writes `evidence` to dir/name.
std::string Write(const tests::TempDir& dir, const Evidence& evidence, const std::string& name = "proof") {
  const std::atomic<bool> cancelled = false;
  const auto written = WriteEvidence(dir / name, evidence, /*force=*/false, cancelled);
  EXPECT_TRUE(written) << written.error().ToString();
  return dir / name;
}

std::string ProblemOf(const std::string& folder) {
  const auto read = ReadEvidence(folder);
  if (read) return "";
  EXPECT_EQ(read.error().code, ErrorCode::kCorrupt) << read.error().ToString();
  return read.error().ToString();
}

TEST(Evidence, IsReadAsItWasWritten) {
  const tests::TempDir dir;
  const Evidence evidence = Sample();
  const auto read = ReadEvidence(Write(dir, evidence));
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_THAT(read->made_by, HasSubstr("sluice "));
  EXPECT_EQ(read->form, evidence.form);
  EXPECT_EQ(read->options, evidence.options);
  EXPECT_EQ(read->plan, evidence.plan);
  EXPECT_EQ(read->sides, evidence.sides);
  EXPECT_EQ(read->result, evidence.result);
  EXPECT_EQ(read->papers, evidence.papers);
}

TEST(Evidence, TheSameEvidenceGivesTheSameBytes) {
  EXPECT_EQ(EvidenceFiles(Sample()), EvidenceFiles(Sample()));
  EXPECT_THAT(EvidenceFiles(Sample()), ::testing::SizeIs(5));
}

TEST(Evidence, HasSumsAsSha256sumReadsThem) {
  const auto files = EvidenceFiles(Sample());
  std::string sums;
  for (const char* name : {"evidence.json", "a.manifest.json", "report.html", "result.json"}) {
    sums += kernels::ToHex(kernels::HashText(files.at(name))) + "  " + name + "\n";
  }
  EXPECT_EQ(files.at(kSumsFile), sums);
}

TEST(Evidence, ANewFormAndItsPlanNeedNothingNewHere) {
  const tests::TempDir dir;
  Evidence evidence = Sample();
  evidence.form = "behaviour";
  evidence.plan = {{"key", "secret"}, {"challenges", {1, 2, 3}}};
  evidence.papers["scores.f64"] = std::string("\0\1\2", 3);
  const auto read = ReadEvidence(Write(dir, evidence));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->plan, evidence.plan);
  EXPECT_EQ(read->papers, evidence.papers);
}

TEST(Evidence, NamesTheFileOfWhichOneByteWasChanged) {
  const tests::TempDir dir;
  const std::string folder = Write(dir, Sample());
  for (const std::string& name : Names(folder)) {
    const std::string whole = tests::ReadText(folder + "/" + name);
    // Of digests, of white space, of the names in SHA256SUMS.
    const size_t step = name == kSumsFile ? 1 : name == kEvidenceFile ? 7 : 16;
    for (size_t at = 0; at < whole.size(); at += step) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ 1);
      tests::WriteText(folder + "/" + name, changed);
      const std::string problem = ProblemOf(folder);
      EXPECT_THAT(problem, HasSubstr(name + " was changed")) << at;
      for (const std::string& other : Names(folder)) {
        if (other != name) EXPECT_THAT(problem, Not(HasSubstr(other + " was changed"))) << name << " at " << at;
      }
    }
    tests::WriteText(folder + "/" + name, whole);
    EXPECT_EQ(ProblemOf(folder), "");
  }
}

TEST(Evidence, NamesWhatIsMissingAndWhatIsMore) {
  const tests::TempDir dir;
  const std::string folder = Write(dir, Sample());
  tests::WriteText(folder + "/notes.txt", "x");
  EXPECT_THAT(ProblemOf(folder), HasSubstr("notes.txt does not belong to it"));
  fs::remove(folder + "/notes.txt");
  fs::create_directory(folder + "/more");
  EXPECT_THAT(ProblemOf(folder), HasSubstr("more does not belong to it"));
  fs::remove(folder + "/more");
  for (const std::string& name : Names(folder)) {
    const std::string whole = tests::ReadText(folder + "/" + name);
    fs::remove(folder + "/" + name);
    EXPECT_THAT(ProblemOf(folder), HasSubstr(name + " is missing"));
    tests::WriteText(folder + "/" + name, "");
    EXPECT_THAT(ProblemOf(folder), HasSubstr(name + " was changed"));
    fs::remove(folder + "/" + name);
    fs::create_symlink(dir / "elsewhere", folder + "/" + name);
    tests::WriteText(dir / "elsewhere", whole);
    EXPECT_THAT(ProblemOf(folder), HasSubstr(name));
    fs::remove(folder + "/" + name);
    tests::WriteText(folder + "/" + name, whole);
  }
  EXPECT_EQ(ProblemOf(folder), "");
}

TEST(Evidence, WithoutATrustedListTheSumsTellOfTheRest) {
  const tests::TempDir dir;
  const std::string folder = Write(dir, Sample());
  tests::WriteText(folder + "/evidence.json", "{}");
  tests::WriteText(folder + "/report.html", "other");
  const std::string problem = ProblemOf(folder);
  EXPECT_THAT(problem, HasSubstr("evidence.json was changed"));
  EXPECT_THAT(problem, HasSubstr("report.html was changed"));
  EXPECT_THAT(problem, Not(HasSubstr("result.json")));
}

// Who seals anew what he changed is found by the next thing that does not fit.
std::string Resealed(Json json) {
  json.erase("digest");
  json["digest"] = kernels::ToHex(kernels::HashText(json.dump()));
  return json.dump(2) + "\n";
}

TEST(Evidence, RefusesWhatItsOwnDigestsCannotGuard) {
  const tests::TempDir dir;
  const std::string folder = Write(dir, Sample()), path = folder + "/evidence.json";
  const Json json = Json::parse(tests::ReadText(path));
  const auto with = [&](const std::function<void(Json*)>& change) {
    Json changed = json;
    change(&changed);
    tests::WriteText(path, Resealed(changed));
    const auto read = ReadEvidence(folder);
    EXPECT_FALSE(read);
    return read ? Error{} : read.error();
  };
  const Error newer = with([](Json* changed) { (*changed)["schema"] = "sluice/evidence/v2"; });
  EXPECT_EQ(newer.code, ErrorCode::kUnsupported);
  EXPECT_THAT(newer.message, HasSubstr("newer sluice"));
  EXPECT_THAT(with([](Json* changed) { (*changed)["schema"] = "sluice/digest/v1"; }).message, HasSubstr("no evidence"));
  // Names that lead out of the folder.
  for (const char* name : {"../secret", "/etc/passwd", "", ".", "evidence.json", "SHA256SUMS", "a\nb"}) {
    EXPECT_EQ(with([&](Json* changed) { (*changed)["files"][0]["name"] = name; }).code, ErrorCode::kCorrupt) << name;
  }
  EXPECT_EQ(with([](Json* changed) { (*changed)["files"] = 3; }).code, ErrorCode::kCorrupt);
}

TEST(Evidence, RefusesFieldsThatAreNone) {
  const tests::TempDir dir;
  const std::string folder = Write(dir, Sample()), path = folder + "/evidence.json";
  const std::string sums = tests::ReadText(folder + "/SHA256SUMS");
  const Json json = Json::parse(tests::ReadText(path));
  const auto with = [&](const Json::json_pointer& place, const Json& value) {
    Json changed = json;
    changed[place] = value;
    const std::string text = Resealed(changed);
    tests::WriteText(path, text);
    tests::WriteText(folder + "/SHA256SUMS", kernels::ToHex(kernels::HashText(text)) + sums.substr(64));
    return ProblemOf(folder);
  };
  using Place = Json::json_pointer;
  EXPECT_THAT(with(Place("/sides"), 1), HasSubstr("'sides' is no list"));
  EXPECT_THAT(with(Place("/sides/0"), 1), HasSubstr("sides[0] is no object"));
  EXPECT_THAT(with(Place("/sides/1/root"), "xyz"), HasSubstr("sides[1]: 'root' is not 64 hexadecimal digits"));
  EXPECT_THAT(with(Place("/sides/1/seed"), -1), HasSubstr("sides[1]: 'seed' is no count"));
  EXPECT_THAT(with(Place("/sides/0/files/0/bytes"), "many"), HasSubstr("sides[0]: files[0]: 'bytes' is no count"));
  EXPECT_THAT(with(Place("/form"), nullptr), HasSubstr("'form' is no text"));
  EXPECT_EQ(with(Place("/options/more"), 1), "");  // whoever reads them knows them
}

TEST(Evidence, IsWrittenWholeOrNotAtAll) {
  const tests::TempDir dir;
  const std::atomic<bool> running = false, stopped = true;
  for (const io::WriteCall call : {io::WriteCall::kWrite, io::WriteCall::kSync, io::WriteCall::kRename}) {
    for (int nth = 1;; ++nth) {
      tests::DiskFault fault({.call = call, .nth = nth});
      const auto written = WriteEvidence(dir / "in/proof", Sample(), false, running);
      if (!fault.happened()) {
        ASSERT_TRUE(written);
        ASSERT_GT(nth, 1);
        fs::remove_all(dir / "in");
        break;
      }
      if (fs::exists(dir / "in/proof")) {  // its name came before what failed
        EXPECT_TRUE(ReadEvidence(dir / "in/proof"));
        fs::remove_all(dir / "in");
      } else {
        EXPECT_FALSE(written);
        EXPECT_THAT(Names(dir.path()), IsEmpty());
      }
    }
  }
  const auto interrupted = WriteEvidence(dir / "proof", Sample(), false, stopped);
  ASSERT_FALSE(interrupted);
  EXPECT_EQ(interrupted.error().code, ErrorCode::kCancelled);
  EXPECT_THAT(Names(dir.path()), IsEmpty());
}

TEST(Evidence, ReplacesOnlyWithForce) {
  const tests::TempDir dir;
  Write(dir, Sample());
  const std::atomic<bool> running = false;
  Evidence other = Sample();
  other.papers.clear();
  const auto refused = WriteEvidence(dir / "proof", other, false, running);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutputExists);
  ASSERT_TRUE(WriteEvidence(dir / "proof", other, true, running));
  EXPECT_THAT(Names(dir / "proof"), ElementsAre("SHA256SUMS", "evidence.json", "result.json"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("proof"));
}

TEST(Evidence, APlaceThatIsNoBundle) {
  const tests::TempDir dir;
  EXPECT_EQ(ReadEvidence(dir / "nowhere").error().code, ErrorCode::kNotFound);
  tests::WriteText(dir / "file", "x");
  EXPECT_EQ(ReadEvidence(dir / "file").error().code, ErrorCode::kCorrupt);
  fs::create_directory(dir / "empty");
  EXPECT_THAT(ProblemOf(dir / "empty"), HasSubstr("evidence.json is missing"));
}

TEST(DescribeSide, HashesHeadersWhateverTheirOrder) {
  const tests::MemoryTensor first{"a", "F32", {2}, std::vector<uint8_t>(8, 1)};
  const tests::MemoryTensor second{"b", "BF16", {1, 3}, std::vector<uint8_t>(6, 2)};
  const auto one = tests::MakeMemoryCheckpoint("one", {first, second});
  const auto two = tests::MakeMemoryCheckpoint("two", {second, first});
  EXPECT_EQ(HeadersHash(one->tensors()), HeadersHash(two->tensors()));
  tests::MemoryTensor turned = second;
  turned.shape = {3, 1};
  EXPECT_NE(HeadersHash(one->tensors()), HeadersHash(tests::MakeMemoryCheckpoint("x", {first, turned})->tensors()));
  const auto side = DescribeSide("a", *one, nullptr);
  ASSERT_TRUE(side) << side.error().ToString();
  EXPECT_EQ(side->ref, "one");
  EXPECT_EQ(side->headers_hash, HeadersHash(one->tensors()));
  EXPECT_FALSE(side->root);
}

}  // namespace
}  // namespace sluice::verify
