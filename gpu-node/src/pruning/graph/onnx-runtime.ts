/**
 * The only import of onnxruntime-node. All code that runs a graph imports from here, so that telemetry is disabled before
 * the library is loaded.
 */
import './onnx-runtime-environment.ts'

export { InferenceSession, Tensor } from 'onnxruntime-node'
