// Files that PyTorch wrote (tests/goldens/torch/make.py), against what PyTorch itself reads from them.
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "formats/torch_file.h"
#include "io/byte_source.h"

namespace sluice::formats {
namespace {

const std::string kFolder = std::string(SLUICE_SOURCE_DIR) + "/tests/goldens/torch/";

nlohmann::json Expected() {
  std::ifstream file(kFolder + "expected.json");
  return nlohmann::json::parse(file);
}

std::string Hex(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) {
    for (const int half : {static_cast<uint8_t>(c) >> 4, c & 15}) hex += "0123456789abcdef"[half];
  }
  return hex;
}

TEST(TorchGolden, TensorsAreWhatTorchReads) {
  const nlohmann::json expected = Expected();
  ASSERT_EQ(expected["tensors"].size(), 6u);
  for (const auto& [name, tensors] : expected["tensors"].items()) {
    const auto source = io::OpenFile(kFolder + name);
    ASSERT_TRUE(source);
    const auto file = TorchFile::Read(**source);
    ASSERT_TRUE(file) << file.error().ToString();
    EXPECT_EQ(file->size(), tensors.size()) << name;
    for (size_t i = 0; i < file->size(); ++i) {
      const StoredTensor tensor = (*file)[i];
      const nlohmann::json& wanted = tensors.at(std::string(tensor.name));
      EXPECT_EQ(tensor.encoding.name(), wanted[0].get<std::string>()) << tensor.name;
      EXPECT_EQ(std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end()), wanted[1].get<std::vector<uint64_t>>())
          << tensor.name;
      std::string bytes(tensor.end - tensor.begin, '\0');
      ASSERT_TRUE((*source)->Read(tensor.begin, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
      EXPECT_EQ(Hex(bytes), wanted[2].get<std::string>()) << name << " " << tensor.name;
    }
  }
}

TEST(TorchGolden, StoragesAreAlignedAsTorchAlignsThem) {
  const auto source = io::OpenFile(kFolder + "dtypes.bin");
  ASSERT_TRUE(source);
  const auto file = TorchFile::Read(**source);
  ASSERT_TRUE(file);
  for (size_t i = 0; i < file->size(); ++i) EXPECT_EQ((*file)[i].begin % 64, 0u);
}

TEST(TorchGolden, Remarks) {
  const auto remarks = [](const std::string& name) {
    std::string text;
    const auto source = io::OpenFile(kFolder + name);
    EXPECT_TRUE(source);
    const auto file = TorchFile::Read(**source);
    EXPECT_TRUE(file);
    for (const auto& remark : file->remarks()) text += remark.tensor + "|" + remark.message + "\n";
    return text;
  };
  EXPECT_EQ(remarks("dtypes.bin"), "");
  EXPECT_EQ(remarks("module.bin"), "");
  EXPECT_THAT(remarks("views.bin"), ::testing::HasSubstr("5 tensors share the bytes of others"));
  EXPECT_THAT(remarks("no_crc.bin"), ::testing::HasSubstr("7 of the 7 entries have no checksum"));
  EXPECT_THAT(remarks("checkpoint.pth"), ::testing::HasSubstr("under \"state_dict\"; of the 11 other entries"));
}

TEST(TorchGolden, WhatIsRefused) {
  const nlohmann::json expected = Expected();
  ASSERT_EQ(expected["refused"].size(), 10u);
  for (const auto& [name, words] : expected["refused"].items()) {
    const auto source = io::OpenFile(kFolder + name);
    ASSERT_TRUE(source);
    const auto file = TorchFile::Read(**source);
    ASSERT_FALSE(file) << name;
    EXPECT_EQ(file.error().code, ErrorCode::kUnsupported) << name;
    for (const auto& word : words)
      EXPECT_THAT(file.error().ToString(), ::testing::HasSubstr(word.get<std::string>())) << name;
  }
}

}  // namespace
}  // namespace sluice::formats
