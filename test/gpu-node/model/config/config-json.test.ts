import { expect, test } from 'vitest'
import { parseConfigJson } from '../../../../gpu-node/src/model/config/config-json.ts'
import { configJson, tinyConfig } from '../../../support/models/tiny-llama.ts'

const json = configJson(tinyConfig())

test('a LLaMA configuration is read', () => {
  expect(parseConfigJson(json, undefined, 'm')).toEqual(tinyConfig())
})

test('fields missing in old configurations have the defaults of LLaMA', () => {
  const { head_dim: _, num_key_value_heads: __, rope_theta: ___, tie_word_embeddings: ____, ...old } = json
  expect(parseConfigJson({ ...old, num_key_value_heads: null }, undefined, 'm')).toMatchObject({
    headDim: 16,
    kvHeads: 4,
    ropeTheta: 10_000,
    tiedEmbedding: false,
  })
})

test('rotary settings of Transformers 5 are read from rope_parameters', () => {
  const { rope_theta: _, rope_scaling: __, ...rest } = json
  const parsed = parseConfigJson(
    { ...rest, rope_parameters: { rope_type: 'default', rope_theta: 5e5 } },
    {},
    'm',
  )
  expect(parsed).toMatchObject({ ropeTheta: 5e5, ropeScaling: null })
})

test('a Mistral without a sliding window is a LLaMA', () => {
  const mistral = { ...json, architectures: ['MistralForCausalLM'], sliding_window: null }
  expect(parseConfigJson(mistral, undefined, 'm')).toEqual(tinyConfig())
})

test('end tokens of generation_config.json are added', () => {
  expect(parseConfigJson(json, { eos_token_id: [2, 0] }, 'm').eosTokenIds).toEqual([2, 0])
})

test.each([
  [
    { type: 'linear', factor: 2 },
    { type: 'linear', factor: 2 },
  ],
  [
    {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 8192 },
  ],
])('rope scaling %j is read', (scaling, expected) => {
  expect(parseConfigJson({ ...json, rope_scaling: scaling }, undefined, 'm').ropeScaling).toEqual(expected)
})

test.each([
  [{ architectures: ['MistralForCausalLM'] }, 'sliding_window, by default 4096'],
  [{ architectures: ['MistralForCausalLM'], sliding_window: 4096 }, 'sliding_window'],
  [{ architectures: ['Qwen2ForCausalLM'] }, 'Qwen2ForCausalLM.*biases'],
  [{ architectures: ['Qwen3ForCausalLM'] }, 'Qwen3ForCausalLM.*queries and keys'],
  [{ architectures: undefined, model_type: 'gpt2' }, 'gpt2'],
  [{ attention_bias: true }, 'attention_bias'],
  [{ mlp_bias: true }, 'mlp_bias'],
  [{ sliding_window: 4096 }, 'sliding_window'],
  [{ num_local_experts: 8 }, 'num_local_experts'],
  [{ hidden_act: 'gelu' }, 'gelu'],
  [{ partial_rotary_factor: 0.5 }, 'partial_rotary_factor'],
  [{ quantization_config: { quant_method: 'gptq' } }, 'quantization_config'],
  [{ rope_scaling: { rope_type: 'yarn', factor: 4 } }, 'yarn'],
  [{ rope_scaling: { type: 'dynamic', factor: 4 } }, 'dynamic'],
  [{ rope_scaling: { type: 'linear' } }, 'factor'],
  [{ hidden_size: 'large' }, 'hidden_size'],
  [{ num_key_value_heads: 3 }, 'key/value heads'],
  [{ head_dim: 15 }, '15'],
  [{ num_hidden_layers: 4_000_000_000 }, '4000000000 layers'],
])('%j is an error that names the field', (change, name) => {
  expect(() => parseConfigJson({ ...json, ...change }, undefined, '/models/m/config.json')).toThrow(
    expect.objectContaining({
      code: 'unsupported_model',
      message: expect.stringMatching(new RegExp(`^/models/m/config.json: .*${name}`)),
    }),
  )
})
