import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { readTextInput } from '../../../../gpu-node/lab/texts/text-input.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const sha256 = (content: string) => createHash('sha256').update(content).digest('hex')

function folder(
  files: Record<string, string | Uint8Array>,
): (name: string, field?: string) => Promise<unknown> {
  const dir = temporaryDir()
  for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content)
  mkdirSync(join(dir, 'folder'))
  return (name, field = 'text') => readTextInput(name, field, dir)
}

test('a plain file is one text, compressed or not, with the hash of its plain bytes', async () => {
  const read = folder({ 'a.txt': 'the sea', 'a.txt.gz': gzipSync('the sea'), 'wiki.raw': '\uFEFFthe sea' })
  expect(await read('a.txt')).toEqual({ texts: ['the sea'], sha256: sha256('the sea') })
  expect(await read('a.txt.gz')).toEqual({ texts: ['the sea'], sha256: sha256('the sea') })
  expect(await read('wiki.raw')).toMatchObject({ texts: ['the sea'] })
})

test('newline-delimited JSON gives the texts of a field, and the field is part of the hash', async () => {
  const lines = '{"text":"one","body":"eins"}\n\n{"text":"two","body":"zwei"}\n'
  const read = folder({ 'a.jsonl': lines, 'a.ndjson.gz': gzipSync(lines), 'a.txt': lines })
  expect(await read('a.txt')).toEqual({ texts: [lines], sha256: sha256(lines) })
  expect(await read('a.jsonl')).toEqual({ texts: ['one', 'two'], sha256: sha256(`${lines}\0text`) })
  expect(await read('a.ndjson.gz', 'body')).toEqual({
    texts: ['eins', 'zwei'],
    sha256: sha256(`${lines}\0body`),
  })
})

test('unreadable text is rejected with the file and the place', async () => {
  const read = folder({
    'latin1.txt': Buffer.concat([Buffer.from('caf'), Buffer.of(0xe9), Buffer.from(' ok')]),
    'latin1.txt.gz': gzipSync(Buffer.of(0x61, 0xff)),
    'cut.txt.gz': gzipSync('the sea and the ship').subarray(0, 20),
    'blank.txt': ' \n ',
    'bad.jsonl': '{"text":"one"}\nnot json\n',
    'other.jsonl': '{"text":"one"}\n{"body":"two","id":3}\n',
  })
  await expect(read('latin1.txt')).rejects.toThrow('latin1.txt is not UTF-8: byte 0xe9 at offset 3')
  await expect(read('latin1.txt.gz')).rejects.toThrow('byte 0xff at offset 1 after decompression')
  await expect(read('cut.txt.gz')).rejects.toThrow('cut.txt.gz is not a complete gzip file')
  await expect(read('blank.txt')).rejects.toThrow('blank.txt contains no text')
  await expect(read('bad.jsonl')).rejects.toThrow('bad.jsonl line 2 is not JSON')
  await expect(read('other.jsonl')).rejects.toThrow(
    "line 2 has no text in the field 'text' (it has: body, id)",
  )
  await expect(read('none.txt')).rejects.toThrow('none.txt does not exist')
  await expect(read('folder')).rejects.toThrow('folder is a folder')
})
