import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { DeletedSamples, DomainEntry, RebuiltDomain } from '@copal/shared/wire/admin-domains.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { endpoint } from '../../data/client.ts'
import { useClient, useResource } from '../../data/data.tsx'
import { policy } from '../../data/endpoints.ts'
import { plural } from '../../format/numbers.ts'
import { useModel, useNavigation } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'
import { keptTexts, updateConsequences } from './action-words.ts'
import { useStartUpdate } from '../updates/use-start-update.ts'

interface DomainProps {
  name: string
  entry: DomainEntry
}

/** Starts an update of a domain. */
export function UpdateDomain({ name, entry }: DomainProps) {
  const startUpdate = useStartUpdate(useModel())
  return (
    <ConfirmButton
      label="Update it"
      tone="plain"
      title={`Start an update of ${name}?`}
      consequences={updateConsequences(entry)}
      confirm="Start the update"
      act={() => startUpdate([name])}
      done={`An update of ${name} has started.`}
    />
  )
}

/** Starts an update that makes a mask for a domain alone, where the policy allows such masks. */
export function MakeOwnMask({ name, entry }: DomainProps) {
  const { send, refresh } = useClient()
  const { go } = useNavigation()
  const model = useModel()
  const inForce = useResource(policy(model))
  if (inForce.value?.policy.discovery.own_masks !== true) return null
  const has = typeof entry.own_mask === 'number'
  return (
    <ConfirmButton
      label={has ? 'Make its own mask anew' : 'Make its own mask'}
      tone="plain"
      title={`Make a mask for ${name} alone?`}
      consequences={[
        `A node selects a mask with the other domains hardly weighted, beside the requests that it serves. It serves ${name} only if it is better there than the shared mask by what the policy demands.`,
        'Nodes keep its weights in memory beside those of the shared mask. Remove it again on this page.',
      ]}
      confirm="Start the update"
      act={async () => {
        const update = await send<UpdateEntry>(
          'POST',
          `/admin/domains/${encodeURIComponent(name)}/mask`,
          model === undefined ? {} : { model },
        )
        refresh('/admin/updates', '/admin/triggers', '/admin/overview')
        go(paths.update(update.id))
      }}
      done={`An update for ${name} alone has started.`}
    />
  )
}

/** Buttons that remove the own mask, the statistics, the texts or all of a domain. */
export function RemoveFromDomain({ name, entry }: DomainProps) {
  const { send, refresh } = useClient()
  const { go } = useNavigation()
  const model = useModel()
  const path = `/admin/domains/${encodeURIComponent(name)}`
  const texts = keptTexts(entry)
  return (
    <div class="button-row">
      {typeof entry.own_mask === 'number' && (
        <ConfirmButton
          label="Remove its own mask"
          title={`Let the shared mask serve ${name}?`}
          consequences={[
            `Requests of ${name} are served by the shared mask instead of mask ${entry.own_mask}, within some 2 seconds. Those that run end as they began.`,
            'An update of the domain alone can make another mask for it.',
          ]}
          confirm="Use the shared mask"
          act={async () => {
            await send('DELETE', endpoint(`${path}/mask`, { model }).path)
            refresh('/admin/domains', '/admin/masks', '/admin/overview')
          }}
          done={`The shared mask serves ${name}.`}
        />
      )}
      <ConfirmButton
        label="Rebuild statistics"
        title={`Rebuild the statistics of ${name}?`}
        consequences={[
          `The calibration on ${name} no longer counts: ${plural(entry.calibrated_datasets, 'dataset')}. The next update computes new statistics from the ${texts} that are kept.`,
          'Masks that serve stay as they are. The old statistics cannot be restored.',
        ]}
        confirm="Rebuild"
        act={async () => {
          await send<RebuiltDomain>('POST', `${path}/rebuild`)
          refresh('/admin/domains', '/admin/triggers')
        }}
        done={`The next update computes new statistics of ${name}.`}
      />
      <ConfirmButton
        label="Delete texts"
        title={`Delete the texts of ${name}?`}
        consequences={[
          `This deletes ${texts} of the reservoir, and those that wait in the queue. Texts that updates have frozen stay.`,
          'They cannot be restored; new traffic fills the domain again.',
        ]}
        confirm={`Delete ${texts}`}
        act={async () => {
          await send<DeletedSamples>('DELETE', `${path}/samples`)
          refresh('/admin/domains', '/admin/triggers')
        }}
        done={`The texts of ${name} are deleted.`}
      />
      <ConfirmButton
        label="Delete the domain"
        title={`Delete ${name}?`}
        consequences={[
          `Everything that is stored for ${name} is deleted: ${texts}, its held-out text, its statistics and evaluations. Masks that were made with it stay.`,
          'It cannot be restored. Requests that name the domain create a new one.',
        ]}
        confirm={`Delete ${name}`}
        act={async () => {
          await send('DELETE', path)
          refresh('/admin/domains', '/admin/triggers', '/admin/drift', '/admin/overview')
          go('/domains')
        }}
        done={`${name} is deleted.`}
      />
    </div>
  )
}
