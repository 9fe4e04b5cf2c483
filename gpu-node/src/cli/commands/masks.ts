import type { Command } from 'commander'
import type { MaskEntry } from '@copal/shared/wire/admin.ts'
import { formatAge, formatBytes, formatMask, formatPercent } from '../quantities.ts'
import { parseMask } from '../mask-argument.ts'
import type { Session } from '../session.ts'

export function addMasks(program: Command, session: Session): void {
  program
    .command('masks')
    .description('registered masks, newest first')
    .option('--model <id>', 'which model, where the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  copal masks\n  copal masks --json')
    .action(async ({ json, model }: { json?: boolean; model?: string }) => {
      const { data: masks } = await session
        .client()
        .admin<{ data: MaskEntry[] }>('GET', `/masks${modelQuery(model)}`)
      session.print(json, masks, () => describe(masks, session))
    })
}

export function addRollback(program: Command, session: Session): void {
  program
    .command('rollback')
    .description('serve an earlier mask again')
    .argument(
      '[version]',
      'like 3 or m3; 0 or dense is the dense model; without it: the previous one',
      parseMask,
    )
    .option('--model <id>', 'which model, where the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  copal rollback\n  copal rollback m3\n  copal rollback dense')
    .action(async (version: number | undefined, options: { json?: boolean; model?: string }) => {
      const answer = await session.client().admin<{ active_version: number }>('POST', '/rollback', {
        ...(version === undefined ? {} : { version }),
        ...(options.model ? { model: options.model } : {}),
      })
      session.print(
        options.json,
        answer,
        () => `${formatMask(answer.active_version)} is being served from the next request on.`,
      )
    })
}

function describe(masks: MaskEntry[], session: Session): string {
  if (masks.length === 0)
    return 'No mask yet: the dense model is served. Make one with: copal update <domain>'
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'MASK', value: (mask) => formatMask(mask.version) },
      { title: 'ROLE', value: (mask) => (mask.active ? 'active' : mask.previous ? 'previous' : '') },
      {
        title: 'METHOD',
        value: (mask) => `${mask.method} ${mask.pattern}${mask.scope === 'matrix' ? ' matrix' : ''}`,
      },
      { title: 'SPARSITY', value: (mask) => formatPercent(mask.sparsity), align: 'right' },
      {
        title: 'CHURN',
        value: (mask) => (mask.churn === null ? '-' : formatPercent(mask.churn)),
        align: 'right',
      },
      { title: 'DOMAINS', value: (mask) => mask.domains.join(','), shrinks: true },
      { title: 'SIZE', value: (mask) => formatBytes(mask.bytes), align: 'right' },
      { title: 'MADE', value: (mask) => formatAge(mask.created_at, nowMs) },
    ],
    masks,
  )
}

/** `?model=…`, or nothing. */
export function modelQuery(model: string | undefined): string {
  return model === undefined ? '' : `?model=${encodeURIComponent(model)}`
}
