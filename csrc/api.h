// SPDX-License-Identifier: Apache-2.0
// What the library shows to its users.
#pragma once

#if defined(_WIN32)
#define SMN_API extern "C" __declspec(dllexport)
#else
#define SMN_API extern "C" __attribute__((visibility("default")))
#endif
