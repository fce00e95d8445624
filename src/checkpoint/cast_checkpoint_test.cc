#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "kernels/convert.h"

namespace sluice::checkpoint {
namespace {

using ::testing::HasSubstr;
using tests::TempDir;

// All of a small tensor, computed by hand: through its node and that node's only input.
std::vector<uint8_t> Compute(const Checkpoint& checkpoint, const std::string& name) {
  const auto place = checkpoint.tensors().Find(name);
  EXPECT_TRUE(place);
  graph::Graph graph;
  const graph::Node* node = checkpoint.MakeNode(*place, &graph);
  EXPECT_EQ(node->encoding(), checkpoint.tensors()[*place].encoding);
  const auto* stored = dynamic_cast<const graph::StoredNode*>(node->inputs().empty() ? node : node->inputs()[0]);
  EXPECT_NE(stored, nullptr);
  const graph::Range all{0, node->num_elements()};
  std::vector<uint8_t> bytes(stored->encoding().BytesOf(all.size()));
  EXPECT_TRUE(stored->source().Read(stored->BytesOf(all).begin, bytes));
  if (node == stored) return bytes;
  EXPECT_LE(all.size(), graph::kPieceElements);
  const graph::View view{bytes.data(), all};
  alignas(64) static uint8_t scratch[graph::kPieceElements * 4];
  alignas(64) static uint8_t out[graph::kPieceElements * 4];
  EXPECT_LE(node->ScratchBytes(), sizeof(scratch));
  node->Compute({.range = all, .in = {&view, 1}, .facts = {}, .scratch = scratch, .out = out});
  return {out, out + node->encoding().BytesOf(all.size())};
}

std::shared_ptr<const Checkpoint> Open(const std::string& path) {
  auto checkpoint = OpenFolder(path, {});
  EXPECT_TRUE(checkpoint) << checkpoint.error().ToString();
  return *checkpoint;
}

TEST(CastTo, FloatsAreCastAndOthersLeftAlone) {
  TempDir dir;
  const std::vector<float> values = {1.0f, -0.0f, 3.14159265f, 65504.0f, 1e-7f, -1.00390625f};
  tests::WriteSafetensors(dir / "model.safetensors", {tests::FloatTensor("f", "F32", {2, 3}, values),
                                                      tests::FloatTensor("b", "BF16", {6}, values),
                                                      {"ids", "I64", {1}, {1, 2, 3, 4, 5, 6, 7, 8}},
                                                      {"empty", "F32", {0, 4}, {}}});
  tests::WriteText(dir / "config.json", "{\"torch_dtype\":\"float32\",\"x\":1}");
  const auto stored = Open(dir.path());
  for (const quant::Encoding encoding : {quant::BF16(), quant::F16(), quant::F32()}) {
    const auto cast = CastTo(stored, encoding);
    ASSERT_TRUE(cast);
    EXPECT_EQ((*cast)->tensors().size(), 4u);
    EXPECT_EQ(Compute(**cast, "ids"), (std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ(Compute(**cast, "f"), tests::FloatTensor("f", std::string(encoding.name()), {6}, values).bytes);
    std::vector<float> rounded;
    rounded.reserve(values.size());
    for (const float value : values)
      rounded.push_back(kernels::reference::Bf16ToF32(kernels::reference::F32ToBf16(value)));
    EXPECT_EQ(Compute(**cast, "b"), tests::FloatTensor("b", std::string(encoding.name()), {6}, rounded).bytes);
    EXPECT_EQ((*cast)->tensors()[*(*cast)->tensors().Find("ids")].encoding.name(), "I64");
    EXPECT_EQ((*cast)->tensors()[*(*cast)->tensors().Find("empty")].encoding, encoding);
    EXPECT_EQ((*cast)->config()->GetString("torch_dtype"), quant::DtypeName(encoding));
    EXPECT_EQ((*cast)->config()->GetInt("x"), 1u);
    EXPECT_EQ((*cast)->ref(), stored->ref());
  }
}

TEST(CastTo, TheDtypeKeyFollows) {
  TempDir dir;
  tests::WriteSafetensors(dir / "model.safetensors", {tests::RandomTensor("w", "F32", {2}, 1)});
  const auto dtypes = [&](const char* config) {
    tests::WriteText(dir / "config.json", config);
    return (*CastTo(Open(dir.path()), quant::BF16()))->config()->json().dump();
  };
  EXPECT_EQ(dtypes("{\"dtype\":\"float32\"}"), "{\"dtype\":\"bfloat16\"}");
  EXPECT_EQ(dtypes("{}"), "{\"torch_dtype\":\"bfloat16\"}");
  EXPECT_EQ(dtypes("{\"torch_dtype\":\"float16\",\"text_config\":{\"torch_dtype\":\"float16\"}}"),
            "{\"torch_dtype\":\"bfloat16\",\"text_config\":{\"torch_dtype\":\"bfloat16\"}}");
}

TEST(CastTo, CarriesEverythingElse) {
  TempDir dir;
  const auto stored = Open(tests::MakeTinyLlama(dir / "m", {.dtype = "F32", .shards = 2, .tied = true}));
  const auto cast = CastTo(stored, quant::BF16());
  ASSERT_TRUE(cast);
  EXPECT_EQ((*cast)->side_files().size(), stored->side_files().size());
  EXPECT_EQ((*cast)->problems().size(), stored->problems().size());
  EXPECT_EQ((*cast)->files().size(), 2u);
  EXPECT_EQ((*cast)->tensors().total_bytes() * 2, stored->tensors().total_bytes());
  EXPECT_EQ((*cast)->config()->Canonical(), stored->config()->Canonical());  // what it is stored in changes no model
}

TEST(CastTo, RefusesWhatCannotBeDecoded) {
  TempDir dir;
  tests::WriteSafetensors(dir / "model.safetensors", {{"w", "F6_E2M3", {4}, {1, 2, 3}}});
  const auto cast = CastTo(Open(dir.path()), quant::BF16());
  ASSERT_FALSE(cast);
  EXPECT_EQ(cast.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(cast.error().ToString(), HasSubstr("w: arithmetic on F6_E2M3 is not supported yet"));
}

}  // namespace
}  // namespace sluice::checkpoint
