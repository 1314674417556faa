// Book by a client that openapi-typescript has typed: node booking.js URL

import createClient from "openapi-fetch";
import type { components, paths } from "./description.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });

function expect<Type>(found: Type, expected: Type): void {
  if (JSON.stringify(found) !== JSON.stringify(expected)) {
    throw new Error(`expected ${JSON.stringify(expected)}, not ${JSON.stringify(found)}`);
  }
}

const sent: components["schemas"]["Booking"] = {
  patient_name: "Иван Иванов",
  office_number: "TypeScript",
  date_time: "2027-12-01T15:30:00",
};
// @ts-expect-error: the office is missing
const incomplete: components["schemas"]["Booking"] = { patient_name: "", date_time: "" };
// @ts-expect-error: there is no such field
const unknown: components["schemas"]["Booking"] = { ...sent, colour: "red" };

const made = await client.POST("/appointment", {
  body: sent,
  params: { header: { "Idempotency-Key": "typescript" } },
});
expect(made.response.status, 201);
const id = made.data?.id ?? 0;
expect(made.data, { id, ...sent });

const shown = await client.GET("/appointment/{id}", { params: { path: { id } } });
expect(shown.data?.status, "booked");
expect(shown.data?.doctor_name, null);

const taken = await client.POST("/appointment", { body: { ...sent, patient_name: "Анна Ли" } });
const conflict = taken.error as components["schemas"]["TimeTakenProblem"];
expect(conflict.type, "/docs#time-taken");
expect(conflict.conflicts[0]?.id, id);
expect(conflict.free_times[0], "2027-12-01T15:45:00");

for (const wrong of [incomplete, unknown]) {
  const refused = await client.POST("/appointment", { body: wrong });
  expect(refused.response.status, 422);
  const { errors } = refused.error as components["schemas"]["WrongFieldsProblem"];
  expect(errors.length > 0, true);
}

const listed = await client.GET("/appointment", {
  params: { query: { office_number: sent.office_number, limit: 1 } },
});
expect(Array.isArray(listed.data) && listed.data[0]?.id, id);

const changed = await client.PATCH("/appointment/{id}", {
  params: { path: { id }, header: { "If-Match": '"1"' } },
  body: { status: "arrived" },
});
expect(changed.data?.status, "arrived");
