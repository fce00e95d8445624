#include "verify/replay.h"

#include <cmath>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "generated/version.h"

namespace sluice::verify {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Json Result() {
  return Json::parse(R"({
    "schema": "sluice/verify/v1", "verdict": "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", "level": "tensors",
    "config": {"parts": {"mlp": {"a": 3, "b": 3}}, "tokenizer": null},
    "summary": {"a": {"ref": "x", "root": "00"}, "b": {"ref": "y", "root": "11", "computed": "seed 1"}, "changed": 2},
    "tensors": [{"name": "m.a", "class": "changed", "max_abs": 0.5, "place": {"a": {"file": "f", "byte": 3}}},
                {"name": "m.b", "class": "changed", "max_abs": 1.0, "a": {"shape": [2, 3]}}],
    "fingerprint": {"nonce": "00", "bytes_read": 4, "against": "f.json", "blocks": 2},
    "memory": {"budget": 1, "peak": 2}, "seconds": 0.5, "bytes_read": 100})");
}

formats::LongObject InParts(const Json& json) {
  formats::LongObject object;
  object.json = json;
  if (!json.contains("tensors") || !json.at("tensors").is_array()) return object;
  object.list = "tensors";
  object.size = json.at("tensors").size();
  object.json["tensors"] = Json::array();
  object.element = [json](uint64_t i) { return json.at("tensors").at(i); };
  return object;
}

// Also of a text and of parts: both must find the same.
ResultComparison CompareBothWays(const Json& recorded, const Json& now) {
  ResultComparison whole = CompareResults(recorded, now);
  const auto parts = CompareResults(recorded.dump(2), InParts(now));
  EXPECT_TRUE(parts.has_value());
  EXPECT_EQ(parts->agree, whole.agree);
  EXPECT_EQ(parts->not_compared, whole.not_compared);
  EXPECT_EQ(parts->differ.size(), whole.differ.size());
  for (size_t i = 0; i < std::min(parts->differ.size(), whole.differ.size()); ++i) {
    EXPECT_EQ(parts->differ[i].field, whole.differ[i].field);
    EXPECT_EQ(parts->differ[i].recorded, whole.differ[i].recorded);
    EXPECT_EQ(parts->differ[i].now, whole.differ[i].now);
  }
  return whole;
}

std::vector<std::string> Differing(const Json& recorded, const Json& now) {
  std::vector<std::string> fields;
  for (const FieldDifference& difference : CompareBothWays(recorded, now).differ) fields.push_back(difference.field);
  return fields;
}

TEST(CompareResults, TheSameHasNoDifference) {
  const ResultComparison comparison = CompareBothWays(Result(), Result());
  EXPECT_THAT(comparison.differ, IsEmpty());
  // schema, verdict, level; two counts, tokenizer; two roots, changed; three of m.a, four of m.b; nonce, blocks.
  EXPECT_EQ(comparison.agree, 18u);
}

TEST(CompareResults, LeavesOutWhatARunCostsAndWhereThingsLie) {
  Json now = Result();
  now["seconds"] = 9;
  now["bytes_read"] = 1;
  now["memory"] = {{"budget", 3}};
  now["summary"]["a"]["ref"] = "elsewhere";
  now["summary"]["b"].erase("computed");
  now["tensors"][0]["place"] = nullptr;
  now["fingerprint"]["against"] = nullptr;
  now["fingerprint"]["bytes_read"] = 0;
  EXPECT_THAT(Differing(Result(), now), IsEmpty());
}

TEST(CompareResults, FindsEachOtherField) {
  // Every leaf that is compared, changed in turn, is found under its own name.
  const Json flat = Result().flatten();
  size_t found = 0;
  for (const auto& [pointer, value] : flat.items()) {
    Json now = Result();
    now[Json::json_pointer(pointer)] = "something else";
    const auto fields = Differing(Result(), now);
    found += fields.size();
    EXPECT_LE(fields.size(), pointer.ends_with("/name") ? 2u : 1u) << pointer;  // one is missing, one is new
  }
  EXPECT_EQ(found, 18u + 1u + 2u);  // both numbers of the shape, which is one field; two names
}

TEST(CompareResults, NamesFieldsByTheNamesOfLists) {
  Json now = Result();
  now["tensors"][1]["max_abs"] = 2.0;
  const ResultComparison comparison = CompareBothWays(Result(), now);
  ASSERT_EQ(comparison.differ.size(), 1u);
  EXPECT_EQ(comparison.differ[0].field, "tensors[m.b].max_abs");
  EXPECT_EQ(*comparison.differ[0].recorded, 1.0);
  EXPECT_EQ(*comparison.differ[0].now, 2.0);
  // One more at the front moves none of the others.
  now["tensors"].insert(now["tensors"].begin(), Json{{"name", "m.0"}, {"class", "changed"}});
  EXPECT_THAT(Differing(Result(), now), ElementsAre("tensors[m.b].max_abs", "tensors[m.0]"));
  now = Result();
  now["tensors"].erase(0);
  EXPECT_THAT(Differing(Result(), now), ElementsAre("tensors[m.a]"));
  EXPECT_FALSE(CompareBothWays(Result(), now).differ[0].now);
}

TEST(CompareResults, ListsWithoutNamesOfTheirOwnGoByPlace) {
  const Json twice = {{"tensors", {{{"name", "x"}, {"shape", {1}}}, {{"name", "x"}, {"shape", {2}}}}}};
  Json now = twice;
  now["tensors"][1]["shape"] = {3};
  EXPECT_THAT(Differing(twice, now), ElementsAre("tensors[1].shape"));
}

TEST(CompareResults, RanksThatOneRunCouldNotTellAreNotCompared) {
  const auto with = [](const Json& rank, int lowest) {
    Json result = Result();
    result["tensors"][0]["rank"] = rank;
    result["tensors"][1]["rank"] = {{"kind", "low"}, {"rank", 3}};
    result["summary"]["changes"] = {{"sentence", "of rank"}, {"layers", 2}, {"ranks", {{"lowest", lowest}}}};
    return result;
  };
  const Json sketched = with({{"kind", "low"}, {"rank", 8}}, 3);
  const Json starved = with({{"kind", "not_sketched"}, {"reason", "no room"}}, 9);
  for (const auto& [recorded, now] : {std::pair(sketched, starved), std::pair(starved, sketched)}) {
    const ResultComparison comparison = CompareBothWays(recorded, now);
    EXPECT_THAT(comparison.differ, IsEmpty());
    EXPECT_THAT(comparison.not_compared,
                ElementsAre("summary.changes.sentence", "summary.changes.ranks", "tensors[m.a].rank"));
  }
  // Two that were sketched, or none, are compared.
  EXPECT_THAT(Differing(sketched, with({{"kind", "full"}, {"rank", 8}}, 3)), ElementsAre("tensors[m.a].rank.kind"));
  EXPECT_THAT(Differing(starved, starved), IsEmpty());
  EXPECT_THAT(CompareBothWays(starved, starved).not_compared, IsEmpty());
}

TEST(CompareResults, MissingAndMoreFieldsDiffer) {
  Json now = Result();
  now.erase("verdict");
  now["more"] = 1;
  EXPECT_THAT(Differing(Result(), now), ElementsAre("verdict", "more"));
  EXPECT_THAT(Differing(Json{{"x", 1}}, Json{{"x", 1.0}}), IsEmpty());
  EXPECT_THAT(Differing(Json{{"x", 1}}, Json{{"x", "1"}}), ElementsAre("x"));
  // The last places of fractions are the C library's; of whole numbers none is.
  EXPECT_THAT(Differing(Json{{"x", 0.1}}, Json{{"x", std::nextafter(0.1, 1)}}), IsEmpty());
  EXPECT_THAT(Differing(Json{{"x", 0.1}}, Json{{"x", 0.1 + 1e-12}}), ElementsAre("x"));
  EXPECT_THAT(Differing(Json{{"x", uint64_t{1} << 60}}, Json{{"x", (uint64_t{1} << 60) + 1}}), ElementsAre("x"));
  EXPECT_THAT(Differing(Json{{"x", nullptr}}, Json::object()), ElementsAre("x"));
}

KnownSide Side() {
  EvidenceSide side{.name = "a", .ref = "x", .kind = "safetensors"};
  side.files = {{"model.safetensors", 10}, {"config.json", 3, kernels::HashText("1")}};
  side.config_hash = kernels::HashText("config");
  side.tokenizer_hash = kernels::HashText("tokenizer");
  side.headers_hash = kernels::HashText("headers");
  side.weights_root = kernels::HashText("weights");
  side.root = kernels::HashText("root");
  return {.side = side};
}

TEST(CompareSides, SaysWhatIsOther) {
  EXPECT_EQ(CompareSides(Side(), Side()).state, SideReplay::State::kSame);
  EXPECT_EQ(CompareSides(Side(), Side()).known_by, "every byte");
  const auto changed = [](const std::function<void(EvidenceSide*)>& change) {
    KnownSide now = Side();
    change(&now.side);
    return CompareSides(Side(), now).changed;
  };
  const kernels::Hash256 other = kernels::HashText("other");
  EXPECT_THAT(changed([&](EvidenceSide* side) { side->config_hash = other; }), ElementsAre("config"));
  EXPECT_THAT(changed([&](EvidenceSide* side) { side->tokenizer_hash = other; }), ElementsAre("tokenizer"));
  EXPECT_THAT(changed([&](EvidenceSide* side) { side->headers_hash = other; }),
              ElementsAre("names, encodings or shapes"));
  EXPECT_THAT(changed([&](EvidenceSide* side) { side->weights_root = side->root = other; }), ElementsAre("weights"));
  EXPECT_THAT(changed([&](EvidenceSide* side) { side->root = other; }), ElementsAre("root"));
}

TEST(CompareSides, ALayoutIsAHintAndNoChange) {
  KnownSide now = Side();
  now.side.files = {
      {"model-00001-of-00002.safetensors", 5}, {"model.safetensors", 11}, {"config.json", 3, kernels::HashText("2")}};
  const SideReplay replay = CompareSides(Side(), now);
  EXPECT_EQ(replay.state, SideReplay::State::kSame);
  EXPECT_THAT(replay.files, ElementsAre("model.safetensors (11 bytes, 10 recorded)", "config.json (other bytes)",
                                        "model-00001-of-00002.safetensors (was not there)"));
}

TEST(CompareSides, WhereFilesAreAllThatIsKnownTheyCount) {
  KnownSide recorded;
  recorded.side = {.name = "model", .ref = "x", .kind = "files", .files = {{"w", 3, kernels::HashText("1")}}};
  KnownSide now = recorded;
  EXPECT_EQ(CompareSides(recorded, now).state, SideReplay::State::kSame);
  now.side.files[0].digest = kernels::HashText("2");
  EXPECT_THAT(CompareSides(recorded, now).changed, ElementsAre("files"));
}

TEST(CompareSides, HowFarASideIsKnown) {
  KnownSide unread = Side();
  unread.side.root = unread.side.weights_root = std::nullopt;
  EXPECT_EQ(CompareSides(unread, Side()).known_by, "headers");
  EXPECT_EQ(CompareSides(Side(), unread).state, SideReplay::State::kSame);
}

TEST(CompareSides, NamesTensorsByTheManifests) {
  const auto with = [](const std::string& bytes) {
    KnownSide side = Side();
    side.digest.emplace();
    side.digest->tensors = {{"w", "F32", {1}, kernels::HashText(bytes), 4}, {"v", "F32", {1}, {}, 4}};
    side.side.weights_root = kernels::HashText(bytes);
    return side;
  };
  const SideReplay replay = CompareSides(with("1"), with("2"));
  EXPECT_THAT(replay.changed, ElementsAre("weights"));
  EXPECT_THAT(replay.tensors, ElementsAre("w"));
}

Replay Of(bool field_differs, bool side_changed) {
  Replay replay;
  replay.made_by = std::string("sluice ") + kVersion;
  if (field_differs) replay.results.differ.push_back({.field = "verdict"});
  replay.sides.push_back({.name = "a", .known_by = "every byte"});
  replay.sides.push_back({.name = "b", .known_by = "every byte"});
  if (side_changed) {
    replay.sides[1].state = SideReplay::State::kChanged;
    replay.sides[1].changed = {"weights"};
    replay.sides[1].tensors = {"m.a", "m.b"};
  }
  return replay;
}

TEST(Replay, SaysWhetherTheModelsOrTheEvidenceAreOthers) {
  EXPECT_TRUE(Of(false, false).reproduced());
  EXPECT_FALSE(Of(true, false).reproduced());
  // Both sides changed alike give the same answer, of other models.
  EXPECT_FALSE(Of(false, true).reproduced());
  EXPECT_THAT(Of(true, true).Finding(), HasSubstr("B is not as recorded: other weights (m.a and 1 more)"));
  EXPECT_THAT(Of(true, false).Finding(), HasSubstr("every byte of the models is as recorded"));
  EXPECT_THAT(Of(true, false).Finding(), HasSubstr("the result was edited"));
  Replay old = Of(true, false);
  old.made_by = "sluice 0.0.9";
  EXPECT_THAT(old.Finding(), HasSubstr("or sluice 0.0.9 finds otherwise"));
  old.sides[0].known_by = "headers";
  EXPECT_THAT(old.Finding(), HasSubstr("changed where nothing was recorded"));
}

}  // namespace
}  // namespace sluice::verify
