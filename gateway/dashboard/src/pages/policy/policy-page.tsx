import { useMemo } from 'preact/hooks'
import { Loaded } from '../../components/loaded.tsx'
import { Failing, Skeleton } from '../../components/notices.tsx'
import { Page, Section, sentenceWhenLoaded } from '../../components/page.tsx'
import { useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { hasCome } from '../../data/resource.ts'
import { useModel } from '../../navigation/navigation.tsx'
import { useSession } from '../../session/session.tsx'
import { BackToPreset, ChangeSetting } from './change-setting.tsx'
import { openApi, readPolicySchema, type SettingSchema } from './policy-schema.ts'
import { policySentence, presetNote, settingsByPart, type Setting } from './policy-settings.ts'
import { SettingText } from './setting-text.tsx'
import { formatValue } from './setting-values.ts'
import { partTitle } from './setting-words.ts'

/** The adaptation policy of a model: every setting, what it does, and what was changed. */
export function PolicyPage() {
  const policy = useResource(endpoints.policy(useModel()), 60_000)
  const api = useResource(openApi())
  const schema = useMemo(() => api.value && readPolicySchema(api.value), [api.value])
  // Values and descriptions are drawn together, so that nothing moves when either comes.
  const isPlaced = hasCome(policy) && hasCome(api)
  return (
    <Page
      title="Policy"
      sentence={sentenceWhenLoaded(isPlaced ? policy : { ...policy, value: undefined }, (report) => (
        <p>{policySentence(report)}</p>
      ))}
    >
      {!isPlaced ? (
        <div class="page-place">
          <Skeleton lines={12} />
        </div>
      ) : (
        <Loaded resource={policy}>
          {(report) => (
            <>
              {api.error && !schema && <Failing error={api.error} reload={api.reload} />}
              {settingsByPart(report).map(({ part, settings }) => (
                <Section
                  key={part}
                  title={part === undefined ? 'In general' : partTitle(part)}
                  note={part && schema?.parts.get(part)}
                >
                  <dl class="settings">
                    {settings.map((setting) => (
                      <SettingRow
                        key={setting.name}
                        setting={setting}
                        schema={schema?.settings.get(setting.name)}
                      />
                    ))}
                  </dl>
                </Section>
              ))}
            </>
          )}
        </Loaded>
      )}
    </Page>
  )
}

function SettingRow({ setting, schema }: { setting: Setting; schema: SettingSchema | undefined }) {
  const { name, words, value, isChanged } = setting
  const { may_change: mayChange } = useSession()
  return (
    <div>
      <dt title={name}>{words.label}</dt>
      <dd class="setting-value">
        <span class={isChanged ? 'setting-changed' : undefined}>{formatValue(value, words)}</span>
        {isChanged && (
          <>
            <span class="soft">{presetNote(setting)}</span>
            {mayChange && <BackToPreset setting={setting} />}
          </>
        )}
      </dd>
      {mayChange && schema && (
        <dd class="setting-action">
          <ChangeSetting setting={setting} schema={schema} />
        </dd>
      )}
      {schema && (
        <dd class="setting-text soft">
          <SettingText text={schema.description} />
        </dd>
      )}
    </div>
  )
}
