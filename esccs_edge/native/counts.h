#pragma once

#include <nanobind/nanobind.h>

// Adds `read_counts` to the module.
void define_counts(nanobind::module_ &m);
