/**
 * Loads the dense weights of a model, prints the process of the set, and waits to be killed.
 *
 * Arguments: a JSON file with `config` and `master` (tensors as entries), a work directory.
 */
import { readFileSync } from 'node:fs'
import { createOnnxBackend } from '../../../gpu-node/src/serving/backends/onnx/onnx-backend.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'

const [path, workDir] = process.argv.slice(2) as [string, string]
const { config, master } = JSON.parse(readFileSync(path, 'utf8'))
const model = { config, master: { ...master, tensors: new Map(master.tensors) } } as DenseModel
const backend = createOnnxBackend({ workDir, threads: 1 })
const weights = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
process.stdout.write(`${backend.pidOf(weights)}\n`)
setInterval(() => {}, 1000)
