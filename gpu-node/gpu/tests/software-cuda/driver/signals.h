#pragma once

namespace software_cuda {

/// Lets executors end a kernel that faults. Faults elsewhere go to the handlers that were there before.
void install_signal_handlers();

}  // namespace software_cuda
