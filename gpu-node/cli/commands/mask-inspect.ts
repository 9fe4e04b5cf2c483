import { resolve } from 'node:path'
import type { Command } from 'commander'
import { countBits } from '@copal/shared/mask/bit-rows.ts'
import { checkLinear, type MaskLinear } from '@copal/shared/mask/check-linear.ts'
import { linearPattern, type MaskKind, type MaskMeta } from '@copal/shared/mask/mask-metadata.ts'
import { sha256File } from '@copal/gpu-node/platform/file-digest.ts'
import { openNamedMask } from '../input/mask-file.ts'
import { printable } from '../output/table.ts'
import { counted, formatBytes, formatCount, formatPercent } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'

interface LinearReport {
  name: string
  rows: number
  cols: number
  pattern: string
  kept: number
  /** Pruned weights divided by all weights. */
  sparsity: number
}

interface MaskReport {
  file: string
  kind: MaskKind
  sha256: string
  bytes: number
  meta: MaskMeta
  /** The same over all linears in the file. */
  sparsity: number
  linears: LinearReport[]
  /** Linears that keep all of their weights. */
  dense: string[]
}

export function addMaskInspect(masks: Command, session: Session): void {
  masks
    .command('inspect')
    .description('show the metadata of a mask file and what each linear keeps')
    .argument('<file>', 'a mask or weights file')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal masks inspect m3.safetensors')
    .action(async (file: string, _options: unknown, command: Command) => {
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      const report = await inspect(file, session.terminal.cwd)
      session.print(json, report, () => describe(report, session))
    })
}

/** Reads the whole file. Each linear is checked against its pattern, but not against a model. */
async function inspect(file: string, cwd: string): Promise<MaskReport> {
  const mask = openNamedMask(file, cwd)
  try {
    const { kind, meta, fileBytes } = mask.header
    const linears: LinearReport[] = []
    let kept = 0
    let all = 0
    for (const name of [...mask.header.linears.keys()].sort(byNumbers)) {
      const linear = mask.read(name) as MaskLinear
      const { rows, cols, bits } = linear
      const pattern = linearPattern(meta, name)
      checkLinear(name, linear, pattern, meta.scope)
      const keeps = countBits(bits)
      linears.push({ name, rows, cols, pattern, kept: keeps, sparsity: 1 - keeps / (rows * cols) })
      kept += keeps
      all += rows * cols
    }
    const dense = Object.keys(meta.patterns).filter((name) => !mask.header.linears.has(name))
    const sparsity = all === 0 ? 0 : 1 - kept / all
    return {
      file,
      kind,
      sha256: await sha256File(resolve(cwd, file)),
      bytes: fileBytes,
      meta,
      sparsity,
      linears,
      dense,
    }
  } finally {
    mask.close()
  }
}

function describe(
  { file, kind, sha256, bytes, meta, sparsity, linears, dense }: MaskReport,
  session: Session,
): string {
  const facts: [string, string][] = [
    ['file', `${file}, ${formatBytes(bytes)}`],
    [
      'kind',
      kind === 'weights'
        ? 'weights: the kept weights have new values'
        : 'mask: the kept weights have their dense values',
    ],
    ['sha256', sha256],
    ['base', meta.baseSha256],
    ['parent', meta.parent ?? 'none'],
    ['method', meta.method],
    ['pattern', `${meta.pattern}${meta.scope === 'matrix' ? ' matrix' : ''}`],
    ['domains', meta.domains.join(', ') || 'none'],
    ['created', meta.created],
    ['pruned', `${formatPercent(sparsity)} of ${counted(linears.length, 'linear')}`],
    ...(dense.length > 0 ? [['dense', dense.join(', ')] as [string, string]] : []),
  ]
  const table = session.table(
    [
      { title: 'LINEAR', value: ({ name }) => name, shrinks: true },
      { title: 'SHAPE', value: ({ rows, cols }) => `${rows}×${cols}`, align: 'right' },
      { title: 'PATTERN', value: ({ pattern }) => pattern },
      { title: 'KEPT', value: ({ kept }) => formatCount(kept), align: 'right' },
      { title: 'SPARSITY', value: (linear) => formatPercent(linear.sparsity), align: 'right' },
    ],
    linears,
  )
  const lines = facts.map(([name, value]) => `${name.padEnd(8)} ${printable(value)}`)
  return `${lines.join('\n')}\n\n${table}`
}

/** Orders names so that layer 2 comes before layer 10. */
function byNumbers(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
