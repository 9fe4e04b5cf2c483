import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { runLabSettings as run } from '../../../support/pruning/run-lab-settings.ts'
import { createLabFolder, type LabFolder } from '../../../support/pruning/lab-folder.ts'
import { writeSafetensors } from '../../../support/models/safetensors-writer.ts'
import { tinyConfig, tinyTensors } from '../../../support/models/tiny-llama.ts'

let folder: LabFolder

beforeEach(async () => {
  folder = await createLabFolder()
})

test.each<[string, Parameters<LabFolder['settings']>[0], RegExp]>([
  [
    'too little calibration text',
    { samples: 400 },
    /Domain 'law': 400 sequences of 32 tokens need 12800 tokens, but the text has \d+/,
  ],
  [
    'too little evaluation text',
    { specs: ['law=law.cal.txt:short.txt'] },
    /Domain 'law': the evaluation text has \d+ tokens, less than one window of 48/,
  ],
  ['a missing file', { specs: ['law=none.txt:law.eval.txt'] }, /none.txt does not exist/],
  [
    'sequences beyond the context',
    { length: 512 },
    /Calibration sequences of 512 tokens do not fit the model's context of 256/,
  ],
  [
    'windows beyond the context',
    { windowTokens: 512 },
    /Windows of 512 tokens do not fit the model's context of 256/,
  ],
  [
    'a pattern that does not divide the columns',
    { patterns: ['3:7'] },
    /model.layers.0.self_attn.q_proj.weight.*64 columns are not a multiple of 7/,
  ],
  [
    'no calibration text for a method that calibrates',
    { specs: ['mail=:mail.eval.txt'] },
    /'copal' needs calibration text, but no domain has any/,
  ],
  ['a missing model', { model: '/nowhere/model' }, /\/nowhere\/model/],
])('%s is rejected', async (_what, options, reason) => {
  writeFileSync(join(folder.dir, 'short.txt'), 'the sea')
  const settings = folder.settings(options)
  await expect(run(settings)).rejects.toThrow(reason)
  expect(existsSync(settings.outDir)).toBe(false)
})

test('non-finite weights are rejected with the name of the linear', async () => {
  const tensors = tinyTensors(tinyConfig(), 1)
  tensors.get('model.layers.1.mlp.up_proj.weight')!.values[7] = Number.NaN
  await writeSafetensors(join(folder.dir, 'model', 'model.safetensors'), tensors, 'F32')
  await expect(run(folder.settings())).rejects.toThrow(/model.layers.1.mlp.up_proj/)
})
