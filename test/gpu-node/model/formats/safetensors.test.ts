import { open, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openSafetensors, readTensorEntries } from '../../../../gpu-node/src/model/formats/safetensors.ts'
import { storedBytes, writeSafetensors } from '../../../support/models/safetensors-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { createTinyLlama } from '../../../support/models/tiny-llama.ts'

test.each([
  ['F32', 1],
  ['F16', 1],
  ['BF16', 3],
] as const)('%s in %i files is read tensor by tensor', async (dtype, shards) => {
  const { dir, tensors } = await createTinyLlama(temporaryDir(), { dtype, shards })
  const checkpoint = await openSafetensors(
    join(dir, shards === 1 ? 'model.safetensors' : 'model.safetensors.index.json'),
  )
  expect([...checkpoint.shapes.keys()].sort()).toEqual([...tensors.keys()].sort())
  for (const [name, { shape, values }] of tensors) {
    const rows = shape.length < 2 ? 1 : shape[0]!
    const read = await checkpoint.readRows(name, 0, rows)
    expect(storedBytes(read, dtype)).toEqual(storedBytes(values, dtype))
  }
  const name = 'model.layers.1.mlp.up_proj.weight'
  const row = tensors.get(name)!.values.subarray(2 * 64, 3 * 64)
  expect(storedBytes(await checkpoint.readRows(name, 2, 1), dtype)).toEqual(storedBytes(row, dtype))
  await checkpoint.close()
})

/** Writes a file with the given header and number of data bytes. */
async function fileOf(header: string, dataBytes: number): Promise<string> {
  const path = join(temporaryDir(), 'x.safetensors')
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  await writeFile(path, Buffer.concat([length, Buffer.from(header), Buffer.alloc(dataBytes)]))
  return path
}

test.each([
  ['not JSON', '{"a":', 0],
  ['not an object', '7', 0],
  ['dtype "Q9"', '{"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,4]}}', 4],
  ['shape [-1]', '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4],
  ['data_offsets [0]', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}', 4],
  ['has 8 bytes, but its shape takes 4', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}', 8],
  [
    `tensor 'b' begins at byte`,
    '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
    6,
  ],
  [`metadata 'a' is not a string`, '{"__metadata__":{"a":1}}', 0],
  ['where its header describes', '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 4],
])('a header that is %s is an error', async (what, header, dataBytes) => {
  const path = await fileOf(header, dataBytes)
  const file = await open(path)
  await expect(readTensorEntries(file, path)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining(what),
  })
  await file.close()
})

test('a file too short for a header is an error', async () => {
  const path = join(temporaryDir(), 'x.safetensors')
  await writeFile(path, 'short')
  await expect(openSafetensors(path)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('5 bytes are too few'),
  })
})

test('a header longer than the file is an error before it is read', async () => {
  const path = join(temporaryDir(), 'x.safetensors')
  await writeFile(path, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, 2]))
  await expect(openSafetensors(path)).rejects.toMatchObject({
    message: expect.stringContaining('its first eight bytes are not a header length'),
  })
})

test('a truncated file is an error', async () => {
  const { dir } = await createTinyLlama(temporaryDir())
  await truncate(join(dir, 'model.safetensors'), 200_000)
  await expect(openSafetensors(join(dir, 'model.safetensors'))).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('it has 200000 bytes'),
  })
})

test('an unsupported dtype is an error that names it', async () => {
  const path = await fileOf('{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}', 4)
  await expect(openSafetensors(path)).rejects.toMatchObject({ message: expect.stringContaining('F8_E4M3') })
})

test('a missing shard is an error that names it', async () => {
  const dir = temporaryDir()
  const index = join(dir, 'model.safetensors.index.json')
  await writeFile(
    index,
    JSON.stringify({ weight_map: { a: 'model-00001-of-00002.safetensors', b: 'gone.safetensors' } }),
  )
  await writeSafetensors(
    join(dir, 'model-00001-of-00002.safetensors'),
    new Map([['a', { shape: [1], values: Float32Array.of(1) }]]),
  )
  await expect(openSafetensors(index)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('gone.safetensors is missing'),
  })
})

test('a tensor in two shards is an error that names it', async () => {
  const dir = temporaryDir()
  const index = join(dir, 'model.safetensors.index.json')
  await writeFile(index, JSON.stringify({ weight_map: { a: '1.safetensors', b: '2.safetensors' } }))
  for (const shard of ['1.safetensors', '2.safetensors']) {
    const tensor = { shape: [1], values: Float32Array.of(1) }
    await writeSafetensors(join(dir, shard), new Map([['a', tensor]]))
  }
  await expect(openSafetensors(index)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringMatching(/2\.safetensors holds tensor a, which another file/),
  })
})

test.each([
  ['{}', 'weight_map'],
  ['{"weight_map":{}}', 'weight_map'],
  ['{"weight_map":{"a":"../../etc/secret"}}', 'weight_map'],
  ['{"weight_map":{"a":7}}', 'weight_map'],
  ['{"weight_map":{"a":', 'not valid JSON'],
  ['[]', 'not a JSON object'],
])('index %s is an error', async (json, reason) => {
  const index = join(temporaryDir(), 'model.safetensors.index.json')
  await writeFile(index, json)
  await expect(openSafetensors(index)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining(reason),
  })
})
