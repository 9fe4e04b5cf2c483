import { availableParallelism, loadavg } from 'node:os'
import { createOnnxBackend } from '../src/backends/onnx/backend.ts'
import { createSparseBackend } from '../src/backends/sparse/backend.ts'
import { loadNative } from '../src/backends/sparse/native.ts'
import type { DenseModel } from '../src/model/dense-model.ts'
import { line } from './report.ts'
import { benchServing, type ServedSet } from './serving.ts'

/**
 * The sparse engine, dense and under a mask, in bf16 and int8, beside ONNX Runtime's dense f32, interleaved.
 *
 * @returns lines for people; memory is what this process gained when a set was loaded: without ONNX, whose
 * weights are in a process of its own
 * @throws NativeUnavailableError where the addon is not built
 */
export async function benchEngine(options: {
  model: DenseModel
  maskPath: string
  workDir: string
  repetitions: number
}): Promise<string[]> {
  const { model, maskPath, workDir, repetitions } = options
  const addon = loadNative()
  const onnx = createOnnxBackend({ workDir })
  const dense = { model, version: 0, maskPath: null, priority: 'serving' } as const
  const masked = { ...dense, version: 1, maskPath }
  const lines: string[] = []
  const sets: ServedSet[] = [{ name: 'onnx f32 dense', backend: onnx, weights: await onnx.load(dense) }]
  for (const precision of ['bf16', 'int8'] as const) {
    for (const [name, source] of [
      ['dense', dense],
      ['50 % mask', masked],
    ] as const) {
      let bytes = 0
      const log = {
        info: (_: string, fields?: object) => (bytes = Number((fields as { megabytes?: number }).megabytes)),
      }
      const backend = createSparseBackend({ addon, precision, log })
      const before = process.memoryUsage().rss
      const startedMs = performance.now()
      const weights = await backend.load(source)
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
      const gained = Math.round((process.memoryUsage().rss - before) / 1e6)
      sets.push({ name: `${backend.name} ${name}`, backend, weights })
      lines.push(
        line(`${backend.name} ${name}`, `${bytes} MB a token, ${gained} MB resident, loaded in ${seconds} s`),
      )
    }
  }
  lines.push(
    line(
      'load average, processors',
      `${loadavg()
        .map((load) => load.toFixed(1))
        .join(' ')}, ${availableParallelism()}`,
    ),
  )
  lines.push(...(await benchServing(sets, repetitions, [{ batch: 1, length: 512 }])))
  lines.push(
    line(
      'load average after',
      loadavg()
        .map((load) => load.toFixed(1))
        .join(' '),
    ),
  )
  for (const { backend, weights } of sets) await backend.release(weights)
  return lines
}
