/*
 * cpp_use.cpp - the library from C++11: a handle that closes itself, handlers as lambdas.
 *
 * A handler is called from C, so no exception may leave it: guarded() turns one into a
 * failed attempt.  Exits 0 when the sum came out right and the exception ended in the
 * dlq.
 */
#include <atomic>
#include <bgmq.h>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

struct Close {
    void operator()(struct bgmq *mq) const
    {
        bgmq_free(mq);
    }
    void operator()(struct bgmq_message *message) const
    {
        bgmq_message_free(message);
    }
};
using Queue = std::unique_ptr<struct bgmq, Close>;
using Message = std::unique_ptr<struct bgmq_message, Close>;

Queue open_queue(const struct bgmq_options &options)
{
    struct bgmq *mq;
    struct bgmq_error error;
    if (bgmq_open(&mq, &options, &error) != BGMQ_OK)
        throw std::runtime_error(error.text);
    return Queue(mq);
}

void check(int result)
{
    if (result < 0)
        throw std::runtime_error(bgmq_strerror(result));
}

template <class Function> int guarded(struct bgmq_job *job, Function function)
{
    try {
        return function();
    } catch (const std::exception &e) {
        return bgmq_job_fail(job, BGMQ_PERMANENT, "Exception", "%s", e.what());
    }
}

int add(struct bgmq_job *job, void *ctx)
{
    return guarded(job, [=]() -> int {
        std::size_t len;
        const char *body = static_cast<const char *>(bgmq_job_body(job, &len));
        int number = std::stoi(std::string(body, len)); /* throws when it is no number */
        *static_cast<std::atomic<int> *>(ctx) += number;
        return BGMQ_DONE;
    });
}

Message next(const Queue &mq, const char *name)
{
    struct bgmq_message *message;
    check(bgmq_get(mq.get(), name, 10000, &message));
    check(bgmq_ack(message));
    return Message(message);
}

void publish(const Queue &mq, const std::string &body)
{
    check(bgmq_publish(mq.get(), "Add", body.data(), body.size(), nullptr, nullptr));
}

bool run()
{
    std::atomic<int> sum(0); /* outlives the queue, whose handler borrows it */
    struct bgmq_options options = {};
    options.stop_grace_ms = 2000;
    Queue mq = open_queue(options);

    struct bgmq_type_options type = {};
    type.threads = 2;
    check(bgmq_register(mq.get(), "Add", add, &sum, &type));
    check(bgmq_start(mq.get()));
    for (int i = 1; i <= 10; i++)
        publish(mq, std::to_string(i));
    for (int i = 1; i <= 10; i++)
        next(mq, "mq:Add.outq");
    std::printf("1 + ... + 10 = %d\n", sum.load());

    publish(mq, "eleven");
    Message dead = next(mq, "mq:Add.dlq");
    const char *code = bgmq_message_error_code(dead.get());
    std::printf("'eleven' ended in the dlq: %s (%s)\n", code ? code : "?",
                bgmq_message_error_text(dead.get()));
    return sum == 55 && code && std::string(code) == "Exception";
}

} // namespace

int main()
{
    try {
        bool ok = run();
        std::puts(ok ? "all as it should be" : "NOT as it should be");
        return ok ? 0 : 1;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "cpp_use: %s\n", e.what());
        return 1;
    }
}
