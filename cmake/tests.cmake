# Every test is found by its name, so none can be forgotten:
#   src/<room>/**/*_test.cc      one executable a room, <room>_test
#   tests/**/*_test.cc           tests that join rooms: integration_test
#   src/**/*_fuzz.cc             built with a main that replays tests/corpus/<name without _fuzz>/
#   tests/*_test.py              one ctest each; exit code 77 is "skipped", and the test prints why
#   tests/peers/*_test.py        the same, label `peers`: they need build/peers (make test-peers) and skip without it
# Helpers for C++ tests: src/<room>/testing/*.cc and tests/support/*.cc, in the library sluice_test_support.
include(GoogleTest)

# Variables that a test or its children see.
set(SLUICE_TEST_ENVIRONMENT
  "SLUICE=${PROJECT_BINARY_DIR}/sluice"
  "SLUICE_BUILD=${PROJECT_BINARY_DIR}"
  "SLUICE_SOURCE=${PROJECT_SOURCE_DIR}"
  "PYTHONDONTWRITEBYTECODE=1"
  "UBSAN_OPTIONS=print_stacktrace=1")
if(SLUICE_SANITIZE)
  list(APPEND SLUICE_TEST_ENVIRONMENT "SLUICE_SANITIZER_MIB=128")  # tests/budgets.py
endif()

file(GLOB support_sources CONFIGURE_DEPENDS
  "${PROJECT_SOURCE_DIR}/src/*/testing/*.cc" "${PROJECT_SOURCE_DIR}/tests/support/*.cc")
if(support_sources)
  add_library(sluice_test_support STATIC ${support_sources})
  target_link_libraries(sluice_test_support PUBLIC sluice_lib GTest::gtest GTest::gmock)
  target_include_directories(sluice_test_support PUBLIC "${PROJECT_SOURCE_DIR}")
else()
  add_library(sluice_test_support INTERFACE)
  target_link_libraries(sluice_test_support INTERFACE sluice_lib GTest::gtest GTest::gmock)
  target_include_directories(sluice_test_support INTERFACE "${PROJECT_SOURCE_DIR}")
endif()

function(sluice_gtest name label)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE sluice_test_support GTest::gtest_main)
  if(label STREQUAL "io")  # servers over loopback, for http_client
    target_link_libraries(${name} PRIVATE PkgConfig::httplib)
  endif()
  target_compile_definitions(${name} PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # GoogleTest's macros are if/else inside: `if (x) EXPECT_EQ(a, b);` is plain to a reader, not to the compiler.
  target_compile_options(${name} PRIVATE -Wno-dangling-else)
  set_target_properties(${name} PROPERTIES CROSSCOMPILING_EMULATOR "${SLUICE_TEST_LAUNCHER}")
  gtest_discover_tests(${name}
    TEST_PREFIX "${label}."
    DISCOVERY_MODE PRE_TEST
    DISCOVERY_TIMEOUT 120
    WORKING_DIRECTORY "${PROJECT_BINARY_DIR}"
    TEST_LIST ${name}_TESTS
    PROPERTIES LABELS "${label}" TIMEOUT 300)
  # gtest_discover_tests takes no list as a property's value, so the variables are set when ctest has found the tests.
  set(environment_file "${PROJECT_BINARY_DIR}/CMakeFiles/${name}_environment.cmake")
  file(CONFIGURE OUTPUT "${environment_file}" @ONLY CONTENT
    "foreach(test IN LISTS ${name}_TESTS)
  set_tests_properties(\"\${test}\" PROPERTIES ENVIRONMENT \"${SLUICE_TEST_ENVIRONMENT}\")
endforeach()
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${environment_file}")
endfunction()

file(GLOB_RECURSE test_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/*_test.cc")
set(rooms "")
foreach(source IN LISTS test_sources)
  string(REGEX REPLACE "^${PROJECT_SOURCE_DIR}/src/([^/]+)/.*" "\\1" room "${source}")
  list(APPEND rooms ${room})
  list(APPEND sources_of_${room} "${source}")
endforeach()
list(REMOVE_DUPLICATES rooms)
foreach(room IN LISTS rooms)
  sluice_gtest(${room}_test ${room} ${sources_of_${room}})
endforeach()

file(GLOB_RECURSE integration_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/*_test.cc")
if(integration_sources)
  sluice_gtest(integration_test integration ${integration_sources})
endif()

# docs/formats/*.schema.json are held against what the program prints (tests/json_schemas.py).
execute_process(COMMAND /usr/bin/python3 -c "import jsonschema" RESULT_VARIABLE no_jsonschema OUTPUT_QUIET ERROR_QUIET)
if(no_jsonschema)
  message(FATAL_ERROR "the tests need Debian's python3-jsonschema for /usr/bin/python3: scripts/install-deps.sh test")
endif()

foreach(group "tests" "tests/peers")
  file(GLOB scripts CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${group}/*_test.py")
  cmake_path(GET group FILENAME label)
  string(REPLACE "tests" "python" label "${label}")
  foreach(script IN LISTS scripts)
    cmake_path(GET script STEM name)
    add_test(NAME ${label}.${name} COMMAND ${SLUICE_TEST_LAUNCHER} /usr/bin/python3 "${script}")
    set_tests_properties(${label}.${name} PROPERTIES
      LABELS ${label} SKIP_RETURN_CODE 77 TIMEOUT 900 ENVIRONMENT "${SLUICE_TEST_ENVIRONMENT}")
  endforeach()
endforeach()
