import java.io.InputStream;
import java.io.OutputStream;
import java.math.BigInteger;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.security.Security;
import java.security.spec.ECGenParameterSpec;
import java.util.Date;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.DERNull;
import org.bouncycastle.asn1.cmp.CertRepMessage;
import org.bouncycastle.asn1.cmp.PBMParameter;
import org.bouncycastle.asn1.cmp.PKIBody;
import org.bouncycastle.asn1.crmf.CertReqMessages;
import org.bouncycastle.asn1.nist.NISTObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.x500.RDN;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.cmp.CertificateConfirmationContentBuilder;
import org.bouncycastle.cert.cmp.GeneralPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessageBuilder;
import org.bouncycastle.cert.crmf.PKMACBuilder;
import org.bouncycastle.cert.crmf.jcajce.JcaCertificateRequestMessageBuilder;
import org.bouncycastle.cert.crmf.jcajce.JcePKMACValuesCalculator;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaContentVerifierProviderBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;

/** Enrols by CMP as Bouncy Castle does, confirms, and updates the key: `Enrolment URL REFERENCE SECRET NAME`. */
public class Enrolment {
    private static final SecureRandom RANDOM = new SecureRandom();
    private final String url;
    private final String reference;
    private final char[] secret;
    private final X500Name subject;
    private KeyPair pair;
    private X509CertificateHolder certificate;
    private byte[] transaction;
    private byte[] nonce;

    private Enrolment(String url, String reference, String secret, String name) {
        this.url = url;
        this.reference = reference;
        this.secret = secret.toCharArray();
        this.subject = new X500Name("CN=" + name);
    }

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        Enrolment device = new Enrolment(arguments[0], arguments[1], arguments[2], arguments[3]);
        device.request(PKIBody.TYPE_INIT_REQ, null);
        System.out.println("initial " + device.certificate.getSubject());
        KeyPair old = device.pair;
        device.request(PKIBody.TYPE_KEY_UPDATE_REQ, old);
        System.out.println("updated " + device.certificate.getSubject());
    }

    private void request(int type, KeyPair signing) throws Exception {
        X509CertificateHolder known = certificate;
        transaction = random();
        nonce = null;
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(new ECGenParameterSpec("secp256r1"));
        pair = generator.generateKeyPair();
        JcaCertificateRequestMessageBuilder request = new JcaCertificateRequestMessageBuilder(BigInteger.ZERO);
        request.setPublicKey(pair.getPublic());
        request.setSubject(subject);
        request.setProofOfPossessionSigningKeySigner(signer(pair));
        CertReqMessages messages = new CertReqMessages(request.build().toASN1Structure());
        GeneralPKIMessage answer = ask(new PKIBody(type, messages), signing, known);
        CertRepMessage reply = CertRepMessage.getInstance(answer.getBody().getContent());
        certificate = new X509CertificateHolder(
            reply.getResponse()[0].getCertifiedKeyPair().getCertOrEncCert().getCertificate().getX509v3PKCert());
        ASN1Encodable confirmation = new CertificateConfirmationContentBuilder()
            .addAcceptedCertificate(certificate, BigInteger.ZERO)
            .build(new JcaDigestCalculatorProviderBuilder().build()).toASN1Structure();
        GeneralPKIMessage end = ask(new PKIBody(PKIBody.TYPE_CERT_CONFIRM, confirmation), signing, known);
        if (end.getBody().getType() != PKIBody.TYPE_CONFIRM) {
            throw new IllegalStateException("confirmation was answered with " + end.getBody().getType());
        }
    }

    private GeneralPKIMessage ask(PKIBody body, KeyPair signing, X509CertificateHolder known) throws Exception {
        GeneralName nobody = new GeneralName(new X500Name(new RDN[0]));
        ProtectedPKIMessageBuilder message = new ProtectedPKIMessageBuilder(
            known == null ? nobody : new GeneralName(known.getSubject()), nobody);
        message.setMessageTime(new Date()).setTransactionID(transaction).setSenderNonce(random()).setBody(body);
        if (nonce != null) {
            message.setRecipNonce(nonce);
        }
        ProtectedPKIMessage finished;
        if (signing == null) {
            message.setSenderKID(reference.getBytes(StandardCharsets.UTF_8));
            finished = message.build(mac().build(secret));
        } else {
            finished = message.addCMPCertificate(known).build(signer(signing));
        }
        GeneralPKIMessage answer = new GeneralPKIMessage(send(finished.toASN1Structure().getEncoded()));
        ProtectedPKIMessage checked = new ProtectedPKIMessage(answer);
        boolean good = signing == null
            ? checked.verify(mac(), secret)
            : checked.verify(new JcaContentVerifierProviderBuilder().build(checked.getCertificates()[0]));
        if (!good) {
            throw new IllegalStateException("the protection of the answer is wrong");
        }
        if (answer.getBody().getType() == PKIBody.TYPE_ERROR) {
            throw new IllegalStateException("refused: " + answer.getBody().getContent());
        }
        nonce = answer.getHeader().getSenderNonce().getOctets();
        return answer;
    }

    private static PKMACBuilder mac() throws Exception {
        return new PKMACBuilder(new JcePKMACValuesCalculator()).setParameters(new PBMParameter(
            random(), new AlgorithmIdentifier(NISTObjectIdentifiers.id_sha256), 1000,
            new AlgorithmIdentifier(PKCSObjectIdentifiers.id_hmacWithSHA256, DERNull.INSTANCE)));
    }

    private static ContentSigner signer(KeyPair pair) throws Exception {
        return new JcaContentSignerBuilder("SHA256withECDSA").build(pair.getPrivate());
    }

    private static byte[] random() {
        byte[] octets = new byte[16];
        RANDOM.nextBytes(octets);
        return octets;
    }

    private byte[] send(byte[] message) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
        connection.setDoOutput(true);
        connection.setRequestProperty("Content-Type", "application/pkixcmp");
        try (OutputStream out = connection.getOutputStream()) {
            out.write(message);
        }
        try (InputStream in = connection.getInputStream()) {
            return in.readAllBytes();
        }
    }
}
