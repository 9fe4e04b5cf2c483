import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { warnWithoutHugePages } from '@copal/gpu-node/serving/backends/sparse/huge-pages.ts'
import { expect, onTestFinished, test } from 'vitest'

/** The messages that are logged where the setting has this content; `undefined`: there is no setting. */
function saidWith(content: string | undefined): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'copal-huge-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const setting = join(folder, 'enabled')
  if (content !== undefined) writeFileSync(setting, content)
  const said: string[] = []
  warnWithoutHugePages({ warn: (message) => said.push(message) }, setting)
  return said
}

test('a machine that never gives huge pages is told to', () => {
  expect(saidWith('always madvise [never]\n')).toEqual([
    'this machine gives no huge pages, without which decoding is slower. Set them to madvise',
  ])
})

test.each(['always [madvise] never\n', '[always] madvise never\n', undefined])(
  'nothing is said with %j',
  (content) => {
    expect(saidWith(content)).toEqual([])
  },
)
