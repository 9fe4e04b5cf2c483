import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createCodec, tokenizerSha256 } from '../../../gpu-node/src/model/tokenizer/hub-codec.ts'
import type { DenseMaster, DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { hashLinears } from './hash-linears.ts'
import { readTensorEntries } from '../../../gpu-node/src/model/formats/safetensors.ts'
import { readTokenizerFiles } from '../../../gpu-node/src/model/tokenizer/tokenizer-files.ts'
import { createTinyLlama, type TinyLlama, type TinyLlamaOptions } from './tiny-llama.ts'

/** A tiny model in its own directory, opened without conversion: its f32 safetensors file is the master. */
export interface TinyModel {
  dir: string
  model: DenseModel
  tensors: TinyLlama['tensors']
  remove(): Promise<void>
}

/** Writes and opens a tiny model. */
export async function openTinyModel(options: TinyLlamaOptions = {}): Promise<TinyModel> {
  const dir = await mkdtemp(join(tmpdir(), 'copal-tiny-'))
  const { config, tensors } = await createTinyLlama(join(dir, 'model'), options)
  const path = join(dir, 'model', 'model.safetensors')
  const file = await open(path)
  const entries = await readTensorEntries(file, path)
  await file.close()
  const tokenizer = await readTokenizerFiles(join(dir, 'model'))
  const unhashed: DenseMaster = { path, tensors: entries, baseSha256: '' }
  return {
    dir,
    tensors,
    model: {
      id: 'tiny',
      config,
      master: { ...unhashed, baseSha256: await hashLinears(unhashed, config) },
      codec: createCodec(tokenizer, 'tiny'),
      tokenizer: JSON.stringify(tokenizer),
      tokenizerSha256: tokenizerSha256(tokenizer),
      layerSensitivity: null,
      rowSensitivity: null,
    },
    remove: () => rm(dir, { recursive: true, force: true }),
  }
}
