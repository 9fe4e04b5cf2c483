/**
 * ONNX Runtime 1.30 sends usage events to its maker unless this is set before its library loads,
 * on Linux too. Imported first by `runtime.ts`, for its effect alone.
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1'
