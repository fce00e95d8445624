// Merges that are interrupted: by a failing call, by Ctrl-C, by a power cut; and gone on with. One output in the end.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <utime.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/shard_plan.h"
#include "checkpoint/testing/tiny_models.h"
#include "checkpoint/write_journal.h"
#include "cli/program.h"
#include "io/testing/disk_faults.h"
#include "merge/recipe_checkpoint.h"
#include "support/power_cut.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using io::WriteCall;
using ::testing::HasSubstr;
using tests::DiskFault;
using tests::PowerCut;

struct Ran {
  int status;
  std::string out, err;
};

Ran RunWith(const std::atomic<bool>& cancelled, std::vector<std::string> arguments) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = cli::RunProgram(arguments, cancelled);
  std::string out = testing::internal::GetCapturedStdout();
  return {status, std::move(out), testing::internal::GetCapturedStderr()};
}

std::map<std::string, std::string> FilesOf(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename().string()] = tests::ReadText(entry.path().string());
  }
  return files;
}

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// Three models and recipes of them beside a folder that stands for the disk; what a merge in one go makes.
class Resume : public testing::Test {
 protected:
  static constexpr tests::TinyLlama kShape = {.layers = 3, .hidden = 128, .ffn = 352, .vocab = 512};

  void SetUp() override {
    tests::TinyLlama options = kShape;
    tests::MakeTinyLlama(dir_ / "base", options);
    for (const int i : {1, 2}) {
      options.update_seed = static_cast<uint64_t>(i);
      tests::MakeTinyLlama(dir_ / fmt::format("tune{}", i), options);
    }
    WriteRecipe("linear", "");
    fs::create_directory(dir_ / "disk");
    MakeExpected();
  }

  void WriteRecipe(const std::string& method, const std::string& parameters) {
    tests::WriteText(dir_ / "r.yml",
                     fmt::format(R"(merge_method: {}
{}models:
  - model: tune1
    parameters: {{weight: 0.5{}}}
  - model: tune2
    parameters: {{weight: 0.25{}}}
)",
                                 method, method == "linear" ? "" : "base_model: base\n", parameters, parameters));
  }

  void MakeExpected() {
    fs::remove_all(dir_ / "whole");
    const Ran ran =
        RunWith(never_, {"merge", dir_ / "r.yml", "-o", dir_ / "whole", "--out-shard-size", "500k", "-t", "2"});
    ASSERT_EQ(ran.status, 0) << ran.err;
    expected_ = FilesOf(dir_ / "whole");
    ASSERT_GE(expected_.size(), 8u);
  }

  Ran Merge(std::vector<std::string> more = {}) { return MergeWith(never_, std::move(more)); }
  Ran MergeWith(const std::atomic<bool>& cancelled, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"merge", dir_ / "r.yml", "-o", out(), "-t", "2", "--out-shard-size", shards_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunWith(cancelled, arguments);
  }
  std::string out() const { return dir_ / "disk/out"; }
  std::string partial() const { return dir_ / "disk/.out.sluice-partial"; }

  void ExpectWhole() {
    EXPECT_EQ(Names(dir_ / "disk"), std::vector<std::string>{"out"});
    const auto files = FilesOf(out());
    EXPECT_EQ(Names(out()), Names(dir_ / "whole"));
    for (const auto& [name, bytes] : expected_) {
      const auto found = files.find(name);
      EXPECT_TRUE(found != files.end() && found->second == bytes) << name;
    }
  }

  // Ends a merge by a disk that is full when two of its shards are written.
  void Interrupt() {
    DiskFault fault({.call = WriteCall::kWrite, .error_number = ENOSPC, .path_contains = "model-00003-of"});
    const Ran ran = Merge();
    ASSERT_EQ(ran.status, 6) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("--resume"));
    ASSERT_FALSE(fs::exists(out()));
  }

  tests::TempDir dir_;
  const std::atomic<bool> never_{false};
  std::string shards_ = "500k";
  std::map<std::string, std::string> expected_;
};

// Each call of each kind fails, from the first to the last that a merge makes: for a moment or for good.
TEST_F(Resume, AnyFailureIsToldAndGoneOnWith) {
  int failures = 0, kept = 0;
  for (const bool full : {false, true}) {
    for (const WriteCall call : {WriteCall::kOpen, WriteCall::kMakeFolder, WriteCall::kAllocate, WriteCall::kWrite,
                                 WriteCall::kTruncate, WriteCall::kSync, WriteCall::kRename}) {
      for (int nth = 1;; ++nth) {
        const bool once = nth % 2 == 0;
        SCOPED_TRACE(testing::Message() << "call " << static_cast<int>(call) << " number " << nth << " full " << full);
        fs::remove_all(dir_ / "disk");
        fs::create_directory(dir_ / "disk");
        std::vector<std::string> flags;
        if (full) {
          fs::create_directory(out());
          tests::WriteText(out() + "/mine", "mine");
          flags.push_back("--force");
        }
        bool happened = false;
        Ran ran;
        {
          const bool no_space = call == WriteCall::kWrite || call == WriteCall::kAllocate;
          DiskFault fault({.call = call, .nth = nth, .error_number = no_space ? ENOSPC : EIO, .once = once});
          ran = Merge(flags);
          happened = fault.happened();
        }
        if (!happened) {
          EXPECT_EQ(ran.status, 0) << ran.err;
          ExpectWhole();
          break;
        }
        ++failures;
        ASSERT_EQ(ran.status, 6) << ran.err;
        EXPECT_THAT(ran.err, HasSubstr("sluice: error: "));
        const bool named = fs::exists(out() + "/config.json");  // the syncs and the tidying up after it
        if (full && !named) EXPECT_EQ(Names(out()), std::vector<std::string>{"mine"});
        if (!full && !named) EXPECT_FALSE(fs::exists(out()));
        if (named) {
          for (const auto& [name, bytes] : expected_) EXPECT_EQ(tests::ReadText(out() + "/" + name), bytes) << name;
        }
        if (fs::exists(partial())) {
          ++kept;
          EXPECT_THAT(ran.err, HasSubstr("--resume"));
        }
        flags.push_back("--resume");
        ran = Merge(flags);
        EXPECT_EQ(ran.status, 0) << ran.err;
        ExpectWhole();
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_GT(failures, 100);
  EXPECT_GT(kept, 30);
}

// The power goes at each call in turn, and at another one while the rest is made. Whatever the disk kept of what was
// not synced, going on makes the same files.
TEST_F(Resume, PowerCutsChangeNothing) {
  int resumed = 0;
  for (int nth = 1; nth < 10'000; ++nth) {
    fs::remove_all(dir_ / "disk");
    fs::create_directory(dir_ / "disk");
    const auto kept = static_cast<PowerCut::Kept>(nth % 3);
    const bool full = nth / 3 % 2 == 1;  // another folder stands there, to be replaced
    if (full) {
      fs::create_directory(out());
      tests::WriteText(out() + "/mine", "mine");
    }
    int cut = nth;
    bool first = true, done = false, cut_at_all = false;
    for (int round = 0; !done; ++round) {
      SCOPED_TRACE(testing::Message() << "call " << nth << " kept " << nth % 3 << " round " << round);
      ASSERT_LT(round, 100);
      Ran ran;
      {
        PowerCut disk(dir_ / "disk", cut);
        std::vector<std::string> flags;
        if (!first) flags.push_back("--resume");
        if (full) flags.push_back("--force");
        ran = Merge(flags);
        if (disk.happened()) disk.Restore(kept, static_cast<uint64_t>(nth));
        done = !disk.happened();
        cut_at_all |= disk.happened();
      }
      const bool as_before = full && fs::exists(out() + "/mine");
      if (as_before) ASSERT_EQ(FilesOf(out()), (std::map<std::string, std::string>{{"mine", "mine"}}));
      if (!done && !as_before && fs::exists(out())) {
        // Its name is there: then all of it is.
        for (const auto& [name, bytes] : expected_) ASSERT_EQ(tests::ReadText(out() + "/" + name), bytes) << name;
        if (!fs::exists(out() + "/" + checkpoint::kJournalFile)) done = true;
      }
      if (!first && !done && ran.err.find("are there from an earlier run") != std::string::npos) ++resumed;
      first = false;
      cut = cut * 2 / 3 + 20 * round + 3;
    }
    fs::remove_all(partial());  // of a power cut after the name was given
    ExpectWhole();
    if (HasFailure() || !cut_at_all) break;
  }
  EXPECT_GT(resumed, 5);
}

// What is finished is not read: the bytes that the second run reads are those of the parents of the rest.
TEST_F(Resume, NothingFinishedIsReadAgain) {
  Interrupt();
  auto journal = checkpoint::ReadJournal(partial() + "/" + checkpoint::kJournalFile);
  ASSERT_TRUE(journal) << journal.error().ToString();
  checkpoint::OpenOptions options;
  auto recipe = merge::OpenRecipe(*merge::ReadRecipe(dir_ / "r.yml", {}), options);
  ASSERT_TRUE(recipe);
  const auto plan = checkpoint::PlanShards((*recipe)->tensors(), 500'000);
  ASSERT_TRUE(plan);
  const size_t finished = journal->tensors.size();
  ASSERT_GT(finished, 0u);
  ASSERT_LT(finished, plan->order.size());
  uint64_t rest_bytes = 0;
  for (size_t place = finished; place < plan->order.size(); ++place) {
    rest_bytes += (*recipe)->tensors()[plan->order[place]].size_bytes();
  }
  const Ran ran = Merge({"--resume", "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(nlohmann::json::parse(ran.out)["bytes_read"], 2 * rest_bytes);  // linear reads two parents
  EXPECT_THAT(ran.err, HasSubstr(fmt::format("{} of {} tensors", finished, plan->order.size())));
  ExpectWhole();
}

TEST_F(Resume, FactsAreKept) {
  WriteRecipe("ties", ", density: 0.5");
  MakeExpected();
  Interrupt();
  auto journal = checkpoint::ReadJournal(partial() + "/" + checkpoint::kJournalFile);
  ASSERT_TRUE(journal);
  EXPECT_GT(journal->facts.size(), journal->tensors.size() / 2);
  const Ran ran = Merge({"--resume"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  ExpectWhole();
}

TEST_F(Resume, NansOfFinishedTensorsAreReported) {
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors(kShape);
  for (tests::TestTensor& tensor : tensors) {
    if (tensor.name != name) continue;
    for (size_t i = 0; i < 5; ++i) {
      tensor.bytes[2 * i] = 0xc0;
      tensor.bytes[2 * i + 1] = 0x7f;
    }
  }
  tests::WriteSafetensors(dir_ / "tune1/model.safetensors", tensors);
  MakeExpected();
  Interrupt();
  const Ran ran = Merge({"--resume", "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const nlohmann::json nans = nlohmann::json::parse(ran.out)["nan"];
  ASSERT_EQ(nans.size(), 1u);
  EXPECT_EQ(nans[0]["name"], name);
  EXPECT_EQ(nans[0]["count"], 5);
  EXPECT_THAT(ran.err, HasSubstr("from an earlier run"));
  ExpectWhole();
}

// Where the output grows inside its own folder and its files are moved up one by one: any of these steps fails.
TEST_F(Resume, TheWorkingDirectoryIsGoneOnWithToo) {
  const fs::path before = fs::current_path();
  fs::create_directory(out());
  fs::current_path(out());
  for (int nth = 1;; ++nth) {
    SCOPED_TRACE(nth);
    for (const auto& entry : fs::directory_iterator(".")) fs::remove_all(entry.path());
    const std::vector<std::string> arguments = {"merge", dir_ / "r.yml", "-o", ".", "--out-shard-size", "500k"};
    std::vector<std::string> again = arguments;
    again.push_back("--resume");
    bool happened = false;
    {
      DiskFault fault({.call = WriteCall::kRename, .nth = nth, .error_number = EIO, .once = nth % 2 == 0});
      const Ran ran = RunWith(never_, arguments);
      happened = fault.happened();
      EXPECT_EQ(ran.status, happened ? 6 : 0) << ran.err;
    }
    if (happened) {
      EXPECT_FALSE(fs::exists("model.safetensors.index.json"));
      const Ran ran = RunWith(never_, again);
      EXPECT_EQ(ran.status, 0) << ran.err;
    }
    EXPECT_EQ(Names("."), Names(dir_ / "whole"));
    if (!HasFailure()) ExpectWhole();
    if (HasFailure() || !happened) break;
  }
  fs::current_path(before);
}

// That would be refused again.
TEST_F(Resume, WhatIsRefusedForItsNansIsNotKept) {
  std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors(kShape);
  tensors.back().bytes[0] = 0xc0;
  tensors.back().bytes[1] = 0x7f;
  tests::WriteSafetensors(dir_ / "tune1/model.safetensors", tensors);
  for (int i = 0; i < 2; ++i) {
    const Ran ran = Merge({"--nan", "refuse", "--resume"});
    EXPECT_EQ(ran.status, 3) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("NaN"));
    EXPECT_TRUE(fs::is_empty(dir_ / "disk"));
    Interrupt();  // one that has finished tensors is not kept either
  }
}

// Sees a call and does something once.
class AtCall final : public io::WriteFaults {
 public:
  AtCall(int nth, std::function<void()> what) : nth_(nth), what_(std::move(what)) { io::SetWriteFaults(this); }
  ~AtCall() override { io::SetWriteFaults(nullptr); }
  int Before(WriteCall, const std::string&) override {
    if (++calls_ == nth_) what_();
    return 0;
  }

 private:
  const int nth_;
  const std::function<void()> what_;
  std::atomic<int> calls_ = 0;
};

TEST_F(Resume, AnInterruptedMergeSaysHowToGoOn) {
  std::atomic<bool> cancelled{false};
  {
    AtCall interrupt(30, [&] { cancelled = true; });
    const Ran ran = MergeWith(cancelled, {});
    ASSERT_EQ(ran.status, 130) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("--resume"));
    EXPECT_THAT(ran.err, HasSubstr(partial()));
  }
  // Neither overwritten nor forgotten.
  Ran ran = Merge();
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("go on from there with --resume"));
  EXPECT_THAT(ran.err, HasSubstr("--force"));
  ran = Merge({"--force"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.err.find("earlier run"), std::string::npos);
  ExpectWhole();
}

TEST_F(Resume, WithNothingToResumeItBegins) {
  const Ran ran = Merge({"--resume"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  ExpectWhole();
  EXPECT_EQ(Merge({"--resume"}).status, 2);  // it is whole: --force would make it anew
}

TEST_F(Resume, WhatChangedIsNamed) {
  const auto touch = [&](const std::string& path) {
    const utimbuf times{1'000'000'000, 1'000'000'000};
    ASSERT_EQ(utime(path.c_str(), &times), 0);
  };
  const auto expect_refused = [&](std::vector<std::string> flags, const std::string& words) {
    flags.push_back("--resume");
    const Ran ran = Merge(flags);
    EXPECT_EQ(ran.status, 2) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr(words));
    EXPECT_THAT(ran.err, HasSubstr("--force"));
    EXPECT_TRUE(fs::exists(partial()));
  };
  Interrupt();
  expect_refused({"--seed", "7"}, "the seed has changed (0 then, 7 now)");
  shards_ = "1MB";
  expect_refused({}, "the layout of the output has changed");
  shards_ = "500k";
  expect_refused({"--set", "dtype=float16"}, "the recipe has changed");
  const std::string recipe = tests::ReadText(dir_ / "r.yml");
  tests::WriteText(dir_ / "r.yml", recipe + "# a remark\n");
  expect_refused({}, "the recipe has changed");
  tests::WriteText(dir_ / "r.yml", recipe);
  const Ran same = Merge({"--resume"});
  EXPECT_EQ(same.status, 0) << same.err;
  ExpectWhole();

  // A parent: its time of modification; or neither that nor its size, which is what a careful forger leaves.
  fs::remove_all(out());
  Interrupt();
  touch(dir_ / "tune2/model.safetensors");
  expect_refused({}, "tune2/model.safetensors has changed");
  EXPECT_EQ(Merge({"--force"}).status, 0);
  fs::remove_all(out());
  Interrupt();
  std::string bytes = tests::ReadText(dir_ / "tune2/model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  tests::WriteText(dir_ / "tune2/model.safetensors", bytes);
  touch(dir_ / "tune2/model.safetensors");
  expect_refused({}, "tune2/model.safetensors has changed");
}

// What a parent is made by counts too: another recipe, which this one names as a model.
TEST_F(Resume, ARecipeWithinTheRecipeIsBoundToo) {
  const std::string inner = tests::ReadText(dir_ / "r.yml");
  tests::WriteText(dir_ / "inner.yml", inner);
  tests::WriteText(dir_ / "r.yml",
                   "merge_method: linear\nmodels:\n  - model: inner.yml\n    parameters: {weight: 1}\n");
  MakeExpected();
  Interrupt();
  tests::WriteText(dir_ / "inner.yml", inner + "# another\n");
  const Ran ran = Merge({"--resume"});
  EXPECT_EQ(ran.status, 2) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("inner.yml has changed"));
}

TEST_F(Resume, AParentThatChangesMeanwhileIsRefusedAndNothingIsKept) {
  AtCall change(25, [&] {
    std::string bytes = tests::ReadText(dir_ / "tune1/model.safetensors");
    tests::WriteText(dir_ / "tune1/model.safetensors", bytes);
  });
  const Ran ran = Merge();
  EXPECT_EQ(ran.status, 3) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("tune1/model.safetensors: has changed while it was read"));
  EXPECT_TRUE(fs::is_empty(dir_ / "disk"));
}

// The journal's end torn, its middle flipped, all of it gone: what is still told of is used, and no more.
TEST_F(Resume, ADamagedJournalTellsLess) {
  Interrupt();
  const std::string journal = partial() + "/" + checkpoint::kJournalFile;
  const std::string bytes = tests::ReadText(journal);
  const std::string saved = dir_ / "saved";
  fs::copy(partial(), saved, fs::copy_options::recursive);
  const size_t finished = checkpoint::ReadJournal(journal)->tensors.size();
  for (const size_t size : {bytes.size() - 1, bytes.size() / 2, size_t{40}, size_t{3}, size_t{0}}) {
    for (const bool flip : {false, true}) {
      SCOPED_TRACE(testing::Message() << size << " " << flip);
      fs::remove_all(out());
      fs::remove_all(partial());
      fs::copy(saved, partial(), fs::copy_options::recursive);
      std::string damaged = bytes.substr(0, size);
      if (flip) {
        damaged = bytes;
        damaged[size] = static_cast<char>(damaged[size] ^ 4);
      }
      tests::WriteText(journal, damaged);
      if (auto left = checkpoint::ReadJournal(journal)) EXPECT_LT(left->tensors.size(), finished);
      const Ran ran = Merge({"--resume"});
      ASSERT_EQ(ran.status, 0) << ran.err;
      ExpectWhole();
    }
  }
}

// A reboot may give a disk another number, and two disks each other's: keys of facts are made of them. A fact that is
// another file's now is not used, and one that is not known any more is found again for the statement.
TEST_F(Resume, FactsOfOtherDevicesAreNotUsed) {
  WriteRecipe("ties", ", density: 0.5");
  MakeExpected();
  Interrupt();
  const std::string path = partial() + "/" + checkpoint::kJournalFile;
  checkpoint::JournalContents contents = *checkpoint::ReadJournal(path);
  ASSERT_FALSE(contents.facts.empty());
  ASSERT_FALSE(contents.tensors.empty());
  const auto rewrite = [&](const std::string& devices, bool wrong_facts) {
    checkpoint::JournalContents changed = contents;
    for (auto& item : changed.binding.items) {
      if (item.what == checkpoint::JournalBinding::kDevices && !devices.empty()) item.value = devices;
    }
    for (auto& [key, fact] : changed.facts) {
      if (wrong_facts) {
        for (double& number : fact.numbers) number += 1;
      } else {
        ++key.lo;  // of nothing
      }
    }
    fs::remove(path);
    ASSERT_TRUE(
        checkpoint::WriteJournal::Create(path, changed.binding)->Append(changed.tensors, changed.facts).has_value());
  };
  const std::string saved = dir_ / "saved";
  fs::copy(partial(), saved, fs::copy_options::recursive);
  for (const bool wrong_facts : {true, false}) {
    fs::remove_all(out());
    fs::remove_all(partial());
    fs::copy(saved, partial(), fs::copy_options::recursive);
    rewrite(wrong_facts ? "others" : "", wrong_facts);
    const Ran ran = Merge({"--resume"});
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr(fmt::format("{} of ", contents.tensors.size())));  // they are there
    EXPECT_THAT(ran.err, HasSubstr("are found again"));
    ExpectWhole();
  }
}

// Shards that are not what the journal tells of are not taken for finished.
TEST_F(Resume, AMissingShardIsTold) {
  Interrupt();
  for (const auto& entry : fs::directory_iterator(partial())) {
    if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
  }
  const Ran ran = Merge({"--resume"});
  EXPECT_EQ(ran.status, 2) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("was changed since"));
}

}  // namespace
}  // namespace sluice
