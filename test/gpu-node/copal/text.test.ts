import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { decodeUtf8Strict, readDataset } from '../../../gpu-node/src/copal/text.ts'
import { temporaryDir } from '../../support/temporary.ts'

test('UTF-8 is decoded, a byte order mark dropped', () => {
  expect(decodeUtf8Strict(Buffer.from('\u{feff}naïve 🐳 \ufffd'), 'it')).toBe('naïve 🐳 \ufffd')
})

test.each<[string, Buffer, number]>([
  ['a byte that begins nothing', Buffer.from([0x61, 0xff, 0x62]), 1],
  ['Latin-1', Buffer.from('caf\xe9 noir', 'latin1'), 4],
  ['a character cut at the end', Buffer.from('🐳').subarray(0, 3), 2],
  [
    'an error far into the text',
    Buffer.concat([Buffer.from('é'.repeat(100_000)), Buffer.from([0xc3, 0x28])]),
    200_001,
  ],
  [
    'an error where two chunks meet',
    Buffer.concat([Buffer.alloc(65_535, 'a'), Buffer.from([0xe2, 0x28])]),
    65_536,
  ],
])('%s is refused with its place', (_, bytes, at) => {
  expect(() => decodeUtf8Strict(bytes, 'notes.txt')).toThrow(
    `notes.txt is not UTF-8 text: byte ${at} is wrong`,
  )
})

test('a dataset gives its texts in order and is refused when it is another or malformed', async () => {
  const dir = temporaryDir()
  const path = join(dir, 'dataset.ndjson')
  const write = async (content: string | Uint8Array) => {
    await writeFile(path, content)
    return createHash('sha256').update(content).digest('hex')
  }
  const hash = await write('{"text":"one"}\n\n{"text":"two","more":1}\n')
  expect(await readDataset(path, hash)).toEqual(['one', 'two'])
  await expect(readDataset(path, '0'.repeat(64))).rejects.toMatchObject({ code: 'invalid_request' })
  for (const bad of ['{"text":""}', '{"txt":"x"}', 'text', Buffer.from([0xff])]) {
    await expect(readDataset(path, await write(bad))).rejects.toMatchObject({ code: 'invalid_request' })
  }
})
