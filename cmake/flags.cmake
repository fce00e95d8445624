# Flags that hold for every target of ours.

# Debug information with every build: -g1 (lines, no variables) is enough for a profile or a backtrace and keeps release small.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g -D_GLIBCXX_ASSERTIONS")

add_library(sluice_flags INTERFACE)
target_compile_features(sluice_flags INTERFACE cxx_std_20)
target_compile_options(sluice_flags INTERFACE
  -Wall -Wextra
  # The promise of equal bytes on every machine: a * b + c is two roundings unless the source says fma.
  -ffp-contract=off)
# No -march anywhere: Highway compiles kernels once per instruction set and dispatches when the program runs.

if(SLUICE_WERROR)
  target_compile_options(sluice_flags INTERFACE -Werror)
  # g++ 12 imagines overlapping copies in std::string's assignment (GCC bug 105329).
  target_compile_options(sluice_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-error=restrict>)
endif()

if(SLUICE_SANITIZE)
  string(REPLACE ";" "," sanitizers "${SLUICE_SANITIZE}")
  target_compile_options(sluice_flags INTERFACE
    -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(sluice_flags INTERFACE -fsanitize=${sanitizers})
endif()
if(SLUICE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "SLUICE_FUZZ needs clang (libFuzzer); use `cmake --preset fuzz`")
  endif()
  target_compile_options(sluice_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

# ThreadSanitizer's shadow memory does not survive the address randomisation of recent kernels: run tests without it, where the
# system lets us. A test's children inherit it.
set(SLUICE_TEST_LAUNCHER "")
if("thread" IN_LIST SLUICE_SANITIZE)
  find_program(SETARCH_PROGRAM setarch)
  if(SETARCH_PROGRAM)
    execute_process(COMMAND ${SETARCH_PROGRAM} -R true RESULT_VARIABLE setarch_result OUTPUT_QUIET ERROR_QUIET)
    if(setarch_result EQUAL 0)
      set(SLUICE_TEST_LAUNCHER ${SETARCH_PROGRAM} -R)
    endif()
  endif()
endif()
