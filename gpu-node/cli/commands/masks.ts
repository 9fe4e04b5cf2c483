import type { Command } from 'commander'
import { maskEntry, type MaskEntry, rolledBack } from '@copal/shared/wire/admin.ts'
import { listAll } from '../api/list-all.ts'
import { describeGoingLive } from '../api/going-live.ts'
import { formatAge, formatBytes, formatMask, formatPercent } from '@copal/gpu-node/platform/quantities.ts'
import { modelQuery, parseMask } from '../input/mask-argument.ts'
import type { Session } from '../api/session.ts'
import { addMaskExport } from './mask-export.ts'
import { addMaskImport } from './mask-import.ts'
import { addMaskInspect } from './mask-inspect.ts'
import { addMaskPin } from './mask-pin.ts'
import { addMasksBuild } from './masks-build.ts'

export function addMasks(program: Command, session: Session): void {
  const masks = program
    .command('masks')
    .description('list registered masks, newest first; build, import, export and inspect mask files')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal masks\n  npx copal masks export m3 --out m3.safetensors\n  npx copal masks inspect m3.safetensors',
    )
    .action(async ({ json, model }: { json?: boolean; model?: string }) => {
      const entries = await listAll(session.client(), `/masks${modelQuery(model)}`, maskEntry)
      session.print(json, entries, () => describe(entries, session))
    })
  addMaskExport(masks, session)
  addMaskImport(masks, session)
  addMaskInspect(masks, session)
  addMasksBuild(masks, session)
  addMaskPin(masks, session)
}

export function addRollback(program: Command, session: Session): void {
  program
    .command('rollback')
    .description('serve an earlier mask again')
    .argument(
      '[version]',
      'a version like 3 or m3; 0 or dense for the dense model (default: the previous mask, unless it was rolled back)',
      parseMask,
    )
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal rollback\n  npx copal rollback m3\n  npx copal rollback dense',
    )
    .action(async (version: number | undefined, options: { json?: boolean; model?: string }) => {
      const client = session.client()
      const response = await client.admin('POST', '/rollback', rolledBack, {
        ...(version === undefined ? {} : { version }),
        ...(options.model ? { model: options.model } : {}),
      })
      const { active_version: active } = response
      const outcome = options.json ? '' : await describeGoingLive(client, active, options.model)
      session.print(options.json, response, () => outcome)
    })
}

function describe(masks: MaskEntry[], session: Session): string {
  if (masks.length === 0)
    return 'There is no mask yet; the dense model is served. Create one with: npx copal update <domain>'
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'MASK', value: (mask) => formatMask(mask.version) },
      { title: 'ROLE', value: roleOf },
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
      { title: 'CREATED', value: (mask) => formatAge(mask.created_at, nowMs) },
    ],
    masks,
  )
}

function roleOf({ active, previous, canary, shadow, pinned, swept_at: sweptAt }: MaskEntry): string {
  const roles = {
    active,
    previous: previous && !active,
    canary,
    shadow,
    'no file': sweptAt != null && !active && !previous,
    pinned,
  }
  return Object.entries(roles)
    .flatMap(([role, isOne]) => (isOne ? role : []))
    .join(', ')
}
