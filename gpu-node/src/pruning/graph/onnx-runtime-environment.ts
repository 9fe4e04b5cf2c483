/**
 * Disables telemetry: ONNX Runtime 1.30 sends usage events to Microsoft, on Linux too, unless this variable is set before
 * its library is loaded. `onnx-runtime.ts` imports this file first, for its side effect.
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1'
