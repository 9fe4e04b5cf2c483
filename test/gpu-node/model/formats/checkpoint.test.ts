import { expect, test } from 'vitest'
import { checkTensors } from '../../../../gpu-node/src/model/formats/checkpoint.ts'
import { tinyConfig, tinyTensors } from '../../../support/models/tiny-llama.ts'

const config = tinyConfig()
const shapes = () => new Map([...tinyTensors(config, 1)].map(([name, { shape }]) => [name, shape]))

test('the tensors of a model pass, also with the additional tensors of some exports', () => {
  const more = shapes()
  more.set('model.layers.0.self_attn.rotary_emb.inv_freq', [8])
  more.set('lm_head.weight', [300, 64])
  expect(() => checkTensors(config, more, 'm')).not.toThrow()
})

test('a missing tensor is an error that names it', () => {
  const less = shapes()
  less.delete('model.layers.1.mlp.up_proj.weight')
  expect(() => checkTensors(config, less, 'm')).toThrow(/no tensor model\.layers\.1\.mlp\.up_proj\.weight/)
})

test('an untied model without a head is incomplete', () => {
  expect(() => checkTensors({ ...config, tiedEmbedding: false }, shapes(), 'm')).toThrow(
    /no tensor lm_head\.weight/,
  )
})

test('a tensor of another shape is an error with its name and both shapes', () => {
  const other = shapes()
  other.set('model.norm.weight', [63])
  expect(() => checkTensors(config, other, 'm')).toThrow(/model\.norm\.weight has shape \[63\].*\[64\]/)
})

test('a bias is an error that names it', () => {
  const more = shapes()
  more.set('model.layers.0.self_attn.q_proj.bias', [64])
  expect(() => checkTensors(config, more, 'm')).toThrow(
    expect.objectContaining({ code: 'unsupported_model', message: expect.stringContaining('q_proj.bias') }),
  )
})
