# One thing, one file: a merge method, an encoding or a command is added by adding one file, found here at configure time.
#
#   sluice_registry(OUTPUT      <name>_table.inc
#                   GLOB        src/<room>/<things>/*.cc
#                   NAMESPACE   sluice::<room>::<things>
#                   RETURN_TYPE "const Thing&")
#
# Each file NAME.cc of the glob must define `RETURN_TYPE NAMESPACE::NAME()`, NAME being the file's base name; one that does not is
# an undefined symbol at link time, so a file cannot be forgotten. Left out: *_test.cc, *_fuzz.cc and files beginning with `internal_`.
# The table is written to <build>/include/generated/<OUTPUT>; for src/merge/methods/{linear,ties}.cc it reads
#
#   #include <array>
#   namespace sluice::merge::methods {
#   const Method& linear();
#   const Method& ties();
#   static const std::array<const Method& (*)(), 2> kTable = {{&linear, &ties}};
#   }  // namespace sluice::merge::methods
#
# in the order of the names. Exactly one .cc of the room includes it, after the header that declares the thing:
#
#   #include "merge/method.h"
#   #include "generated/methods_table.inc"
#   for (auto make : methods::kTable) Register(make());
#
# The return type is looked up in NAMESPACE and outwards. Functions rather than objects: nothing depends on the order of static
# initialisation, and a static library drops no file, since the table names each one.
function(sluice_registry)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "" "OUTPUT;GLOB;NAMESPACE;RETURN_TYPE" "")
  foreach(required OUTPUT GLOB NAMESPACE RETURN_TYPE)
    if(NOT ARG_${required})
      message(FATAL_ERROR "sluice_registry: ${required} is missing")
    endif()
  endforeach()

  file(GLOB files CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${ARG_GLOB}")
  set(names "")
  foreach(file IN LISTS files)
    cmake_path(GET file STEM LAST_ONLY name)
    if(name MATCHES "^internal_" OR name MATCHES "_(test|fuzz)$")
      continue()
    endif()
    if(NOT name MATCHES "^[a-z][a-z0-9_]*$")
      message(FATAL_ERROR "${file}: the file's base name is the name of its function, so it must be snake_case")
    endif()
    list(APPEND names ${name})
  endforeach()
  list(SORT names)

  set(declarations "")
  set(entries "")
  foreach(name IN LISTS names)
    string(APPEND declarations "${ARG_RETURN_TYPE} ${name}();\n")
    list(APPEND entries "&${name}")
  endforeach()
  list(LENGTH names count)
  list(JOIN entries ", " entries)
  if(count GREATER 0)
    set(initialiser "{{${entries}}}")
  else()
    set(initialiser "{}")
  endif()

  string(CONCAT text
    "// Generated from ${ARG_GLOB}; see cmake/registry.cmake. Do not edit.\n"
    "#include <array>\n"
    "namespace ${ARG_NAMESPACE} {\n"
    "${declarations}"
    "static const std::array<${ARG_RETURN_TYPE} (*)(), ${count}> kTable = ${initialiser};\n"
    "}  // namespace ${ARG_NAMESPACE}\n")
  # Written only where it differs, so that a reconfigure rebuilds nothing.
  file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/include/generated/${ARG_OUTPUT}" CONTENT "${text}" @ONLY)
endfunction()
