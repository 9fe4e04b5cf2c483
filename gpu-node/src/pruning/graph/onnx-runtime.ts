/**
 * The only door to onnxruntime-node: whoever runs a graph imports from here, so that the
 * runtime's telemetry is off before its library is loaded.
 */
import './onnx-runtime-environment.ts'

export { InferenceSession, Tensor } from 'onnxruntime-node'
