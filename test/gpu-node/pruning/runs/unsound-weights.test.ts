import { open } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { linearName } from '../../../../gpu-node/src/model/config/llama-config.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { calibrationTask } from '../../../support/pruning/calibration-task.ts'

test.each([
  ['copal', Number.NaN],
  ['magnitude', Number.POSITIVE_INFINITY],
] as const)(
  'weights that are not finite are an error that names the linear (%s, %s)',
  async (method, poison) => {
    const name = linearName(1, 'mlp.down_proj')
    const damaged = await openTinyModel()
    try {
      await overwrite(damaged, name, 77, poison)
      await expect(select(damaged, { method })).rejects.toMatchObject({
        code: 'unsupported_model',
        message: expect.stringContaining(name) as string,
      })
    } finally {
      await damaged.remove()
    }
  },
)

test('a model that overflows on the text is an error that names the block', async () => {
  const damaged = await openTinyModel()
  try {
    // The product of gate and up projection exceeds the range of f32.
    for (let i = 0; i < 64; i++) {
      await overwrite(damaged, linearName(1, 'mlp.gate_proj'), i, 1e30)
      await overwrite(damaged, linearName(1, 'mlp.up_proj'), i, 1e30)
    }
    await expect(select(damaged)).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringMatching(/^Block 1 .* \(mlp_hidden\)/) as string,
    })
  } finally {
    await damaged.remove()
  }
})

async function overwrite(target: TinyModel, name: string, element: number, value: number): Promise<void> {
  const { path, tensors } = target.model.master
  const file = await open(path, 'r+')
  await file.write(Float32Array.of(value), 0, 4, tensors.get(name)!.offset + 4 * element)
  await file.close()
}

/** Selects a mask by one dataset. */
async function select(damaged: TinyModel, options: Parameters<typeof calibrationTask>[1] = {}) {
  const datasets = [await writeWordsDataset(damaged.dir, 'legal', 1)]
  const task = calibrationTask(damaged.dir, { datasets, ...options })
  return calibrateAndSelect(damaged.model, task, 1, () => undefined)
}
